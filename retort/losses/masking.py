"""Random choices of the target's tokens: which are masked, which are revealed.

Shape letters: b batch, t target position.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.data.vocabulary import PAD


def random_mask(target_bt: Tensor, generator: torch.Generator) -> Tensor:
    """Boolean [b, t]: a uniformly random number of each sentence's tokens, at uniformly random positions."""
    real_bt = target_bt != PAD
    draws_2bt = torch.rand((2, *target_bt.shape), generator=generator).to(target_bt.device)
    count_b = (draws_2bt[0, :, 0] * real_bt.sum(1)).long() + 1
    return lowest(draws_2bt[1], real_bt, count_b)


def lowest(draws_bt: Tensor, real_bt: Tensor, count_b: Tensor) -> Tensor:
    """Boolean [b, t]: the ``count`` real positions of each sentence with the lowest draws, which are from 0 to 1."""
    return draws_bt.masked_fill(~real_bt, 2.0).argsort(1).argsort(1) < count_b[:, None]
