"""Probes that are kept, and what they answer of units that nobody labelled."""
