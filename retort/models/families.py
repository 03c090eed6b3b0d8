"""Which module builds a model; this one needs no torch, so that a workflow can ask it."""

from __future__ import annotations

from retort.config import Model, ObjectiveSection


def family_module(objective: ObjectiveSection, config: Model) -> str:
    """Name of the module that builds the model of this objective and configuration: ``retort.models.<family>``."""
    return f"retort.models.{'recurrent' if config.family == 'gru' else objective.family}"
