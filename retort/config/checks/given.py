"""What the given directories hold: the objective and the model of a checkpoint, and the models of a vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from retort.config.model import Model
from retort.config.objectives import Objective
from retort.config.systems import System
from retort.filenames import MODEL_DESCRIPTION, VOCABULARY_MODELS


def as_trained(system: System) -> System:
    """The system with the objective and the model of its checkpoint, if it has one.

    Raises ValueError, with the reason on one line, if these cannot be read.
    """
    if not system.checkpoint:
        return system
    try:
        description = json.loads((Path(system.checkpoint) / MODEL_DESCRIPTION).read_text(encoding="utf-8"))
        objective = TypeAdapter(Objective).validate_python(description["objective"])
        model = Model.model_validate(description["model"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(": ".join([*map(str, first["loc"]), first["msg"]])) from None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    return system.model_copy(update={"objective": objective, "model": model})


def vocabulary_in(directory: str) -> tuple[bytes, ...] | None:
    """The models of the vocabulary in a directory; None if one cannot be read."""
    try:
        return tuple((Path(directory) / name).read_bytes() for name in VOCABULARY_MODELS.values())
    except (OSError, ValueError):
        return None
