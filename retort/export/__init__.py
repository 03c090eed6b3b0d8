"""Trained systems for other runtimes."""
