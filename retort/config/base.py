"""What every section of the configuration is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, text and truth values are no numbers, numbers
    are finite, and values do not change after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class ShapesWeights:
    """Marks a key that the weights of a model depend on, in the key's annotation."""


Probability = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
"""Name of a run, a system, a search or a test set. It becomes part of the names of files."""


def _are_seeds(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{seeds} repeats a seed; give each once")
    if any(not 0 <= seed < 2**63 for seed in seeds):
        raise ValueError(f"{seeds}: seeds are 0 or above, and below 2 to the 63")
    return seeds


Seeds = Annotated[list[int], AfterValidator(_are_seeds)]
