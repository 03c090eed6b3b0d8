"""From the wildcards of a Snakemake job to the plan: input functions and parameters out of plain methods."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

NUMBERS = frozenset({"seed", "iteration"})
"""Wildcards whose values are numbers."""


def of_job(method: Callable[..., T]) -> Callable[[Any], T]:
    """An input function or parameter of a rule: the method, given the job's wildcards that its arguments name.

    ``of_job(plan.training_files)`` calls ``plan.training_files(system, seed)`` with the wildcards system and seed.
    Arguments with defaults keep them. An AttributeError names a wildcard that the rule does not have.
    """
    parameters = inspect.signature(method).parameters.values()
    required = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]

    def get(wildcards: Any) -> T:
        values = {name: getattr(wildcards, name) for name in required}
        return method(**{name: int(value) if name in NUMBERS else value for name, value in values.items()})

    return get
