"""Figures, with exact numbers for their marks, and the steps that draw them."""
