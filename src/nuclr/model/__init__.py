"""The network: knows tensors, not recordings."""
