"""Saved probes, and their answers for units without labels."""
