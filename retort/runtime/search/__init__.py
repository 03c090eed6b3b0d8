"""What exported graphs leave to numpy: one module per search, named as in the configuration.

A module has ``search(graphs, sources, options) -> list[Decoded]``, which chooses the same output as the module of this
name in ``retort.search``. ``options`` is the search's section, complete. A search without a module here cannot be
exported.
"""
