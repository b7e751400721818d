"""Figures, and the pages that show them: reports, maps of units, and activity of recordings."""
