"""What glancing objectives share (Qian et al. 2021): a first guess without gradients, and the ratio to reveal.

Shape letters: b batch, t target position or slot, d width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from retort.config import Glancing
from retort.models.kernels import rewound_dropout
from retort.models.parallel import ParallelModel


def first_guess(model: ParallelModel, decode: Callable[[], Tensor]) -> Tensor:
    """States [b, t, d] of ``decode``, without gradients. The decoder's next pass has the same dropout."""
    with torch.no_grad(), rewound_dropout(model.device):
        return decode()


def glancing_ratio(options: Glancing, progress: float) -> float:
    """Number of revealed positions, as a share of the guess's wrong ones; ``progress`` is from 0 to 1."""
    return options.start + (options.end - options.start) * progress
