"""Transformers: the parts every model family shares, and one file a family."""
