"""Units to vectors: the encoder's embeddings, the baselines' features, and the table that holds either."""
