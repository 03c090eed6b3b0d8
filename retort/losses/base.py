"""What a loss returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch import Tensor

MIN_WEIGHT = torch.finfo(torch.float32).tiny
"""Lower bound for weight sums used as divisors; a batch with zero total weight has loss 0."""

Mean: TypeAlias = tuple[Tensor, Tensor | None]
"""A mean, and what it is over: a number of tokens or sentences, or None as in ``Loss.tokens``."""


@dataclass(frozen=True)
class Loss:
    """The loss of a batch."""

    total: Tensor
    """Scalar to minimise: the weighted mean per target token, or a sum of means."""
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Detached scalars for the log."""
    tokens: Tensor | None = None
    """How many tokens (or sentences), weighted, the total and its parts are means over; None: all target tokens of the
    batch."""
    counts: Mapping[str, Tensor | None] = field(default_factory=dict)
    """What parts are means over, where that is not ``tokens``."""
    summands: tuple[Mean, ...] = ()
    """The means that the total is the sum of; empty: it is one over ``tokens``."""

    def __post_init__(self) -> None:
        """Raises TypeError where the objective makes it, as the loop could not say whose tensor it is."""
        for name, value in {"total": self.total, **self.parts}.items():
            if not isinstance(value, Tensor) or value.dim():
                found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"a loss's {name} is {found}; expected a tensor without dimensions")

    @property
    def means(self) -> tuple[Mean, ...]:
        """The summands of the total."""
        return self.summands or ((self.total, self.tokens),)

    def plus(self, value: Tensor, count: Tensor | None, parts: Mapping[str, Tensor]) -> Loss:
        """The loss with ``value`` added to its total: a mean over ``count``, as the ``parts`` are that come with it."""
        return replace(
            self,
            total=self.total + value,
            parts={**self.parts, **parts},
            counts={**self.counts, **dict.fromkeys(parts, count)},
            summands=(*self.means, (value, count)),
        )
