"""Pretraining: from windows of recordings to a trained encoder."""
