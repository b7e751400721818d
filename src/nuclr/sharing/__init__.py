"""Models that people share: where they come from, what is in them, and what they say of a recording."""
