"""Limits that several layers share."""

MOST_THREADS = 1024

LEAST_LENGTH = 2
"""Shortest of several target lengths that a search tries, eos included: a lone eos is easy to predict, and would win
over text."""
