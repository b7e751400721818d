"""Windows of recordings to a trained encoder."""
