"""Searches, one a file, named as in the config.

A search's module has ``search(model, source_bs, options) -> list[list[Hypothesis]]``, one n-best list a source.
One that has its candidates scored by a teacher takes the teacher as a fourth argument; those from left to right take
prefixes to continue, where there are any.
"""
