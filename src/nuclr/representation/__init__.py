"""Vectors for units: embeddings by an encoder, features of baselines, and the table that stores them."""
