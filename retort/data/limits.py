"""Limits that command lines and the Python interface share."""

MOST_THREADS = 1024
