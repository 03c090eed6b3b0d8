"""What exported graphs leave to numpy: one module per search, named as in the configuration.

A module has ``search(graphs, sources, options) -> list[Decoded]``, which chooses the same output as the module of this
name in ``retort.search``, and ``scored(graphs, sources, options) -> list[list[Scored]]``, which also ranks the others
and computes probabilities, unless the search declares ``scores_tokens`` as false. ``options`` is the search's section,
complete. ``OUTPUTS_KEY`` is the option that says how many outputs of a source there are; None: one. A search without a
module here cannot be exported.
"""
