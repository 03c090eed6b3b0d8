"""Losses as pure functions of tensors and of models' outputs; nothing here knows a training loop.

What a configuration can name as an objective is in ``retort/objectives``.
"""
