"""What a loss returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

MIN_WEIGHT = torch.finfo(torch.float32).tiny
"""Lower bound for weight sums used as divisors; a batch with zero total weight has loss 0."""


@dataclass(frozen=True)
class Loss:
    """The loss of a batch."""

    total: Tensor
    """Scalar to minimise: the weighted mean per target token."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Detached scalars for the log."""
    tokens: Tensor | None = None
    """How many tokens (or sentences), weighted, the total and its parts are means over; None: all target tokens of the
    batch."""
    counts: Mapping[str, Tensor | None] = field(default_factory=dict)
    """What parts are means over, where that is not ``tokens``."""

    def __post_init__(self) -> None:
        """Raises TypeError where the objective makes it, as the loop could not say whose tensor it is."""
        for name, value in {"total": self.total, **self.parts}.items():
            if not isinstance(value, Tensor) or value.dim():
                found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"a loss's {name} is {found}; expected a tensor without dimensions")
