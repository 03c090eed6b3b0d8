"""Training objectives, one a file, named as in the config.

An objective's module has ``compute(model, batch, options, step) -> Loss``; the others hold what they share.
"""
