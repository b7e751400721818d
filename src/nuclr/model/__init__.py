"""The neural network: it works on tensors and knows nothing of recordings."""
