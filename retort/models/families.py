"""Which module builds a model. This one does not import torch, so a workflow can use it cheaply."""

from __future__ import annotations

from retort.config import Model, ObjectiveSection


def family_module(objective: ObjectiveSection, config: Model) -> str:
    """Name of the module that builds the model of this objective and configuration: ``retort.models.<family>``."""
    return f"retort.models.{'recurrent' if config.family == 'gru' else objective.family}"
