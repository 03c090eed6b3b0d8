"""What an objective returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """``total`` is the scalar to minimise, a mean a target token; ``parts`` are detached scalars for the log."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
