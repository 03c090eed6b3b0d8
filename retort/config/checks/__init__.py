"""Checks of a configuration across its sections, and of the files that it names."""
