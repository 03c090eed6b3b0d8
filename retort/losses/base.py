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
