"""Searches, one per file, named as in the configuration.

A search's module has ``search(model, source_bs, options) -> list[list[Hypothesis]]``, one n-best list per source.
A search that lets a teacher score its candidates takes the teacher as fourth argument. A left-to-right search takes
prefixes that the outputs begin with, or None.
"""
