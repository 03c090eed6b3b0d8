"""What a configuration can name as an objective, one module each.

An objective's module has ``compute(model, batch, options, step) -> Loss``.
"""
