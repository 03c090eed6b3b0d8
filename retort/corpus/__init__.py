"""Parallel text: where it comes from, how it is split and cleaned, and the corpus tables it becomes."""
