"""What the embeddings know, measured."""
