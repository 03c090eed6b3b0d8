"""Searches, one per file, named as in the configuration.

A search's module has ``search(model, source_bs, options) -> list[list[Hypothesis]]``, one n-best list per source.
A search whose candidates a teacher scores (``needs_teacher``) also takes ``teacher``. Searches from left to right take
``prefix_bt``, tokens that the outputs begin with. Both are None by default.
"""
