"""Shared models: locating and downloading them, their files, and decoding recordings with them."""
