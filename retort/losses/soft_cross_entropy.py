"""Cross entropy with a whole distribution at each position.

Shape letters: n positions (only those that count), c positions of a chunk, d width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from retort.losses.projected import projected_loss, softmax_and_normaliser
from retort.models.kernels import linear

Distributions = Callable[[slice], Tensor]
"""Gives the distributions [c, v], float32 and each summing to one, of a slice of the positions."""


def soft_cross_entropy(
    states_nd: Tensor, weight_vd: Tensor, distributions: Distributions, counts_n: Tensor | None = None
) -> Tensor:
    """Sum over positions of - sum_v q_v log softmax(states weight')_v, in nats, float32, each position counting
    ``counts_n`` (float32), or 1; differentiable in states and weight."""

    def score(rows: slice, logits_cv: Tensor) -> tuple[Tensor, Tensor]:
        target_cv = distributions(rows)
        probabilities_cv, normaliser_c = softmax_and_normaliser(logits_cv)
        loss_c = normaliser_c - torch.linalg.vecdot(target_cv, logits_cv)
        return loss_c, probabilities_cv.sub_(target_cv)

    return projected_loss(states_nd, weight_vd, score, counts_n)


def softmax_distributions(states_nd: Tensor, weight_vd: Tensor) -> Distributions:
    """softmax(states weight')."""
    return lambda rows: torch.softmax(linear(states_nd[rows], weight_vd).float(), -1)
