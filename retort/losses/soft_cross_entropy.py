"""Cross entropy with a whole distribution at each position.

Shape letters: n positions in the loss, c positions of a chunk, d width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from retort.losses.chunked_projection import projected_loss, softmax_and_normaliser
from retort.models.kernels import linear

Distributions = Callable[[slice], Tensor]
"""From a slice of the positions: their distributions [c, v], float32, each with sum 1."""


def soft_cross_entropy(
    states_nd: Tensor, weight_vd: Tensor, distributions: Distributions, weights_n: Tensor | None = None
) -> Tensor:
    """Weighted sum over positions of - sum_v q_v log softmax(states weight')_v: nats, float32.

    ``weights_n`` are float32; None: all are 1. Differentiable in states and weight.
    """

    def score(rows: slice, logits_cv: Tensor) -> tuple[Tensor, Tensor]:
        target_cv = distributions(rows)
        probabilities_cv, normaliser_c = softmax_and_normaliser(logits_cv)
        loss_c = normaliser_c - torch.linalg.vecdot(target_cv, logits_cv)
        return loss_c, probabilities_cv.sub_(target_cv)

    return projected_loss(states_nd, weight_vd, score=score, weights_n=weights_n)


def softmax_distributions(states_nd: Tensor, weight_vd: Tensor) -> Distributions:
    """The distributions softmax(states weight'), chunk by chunk."""
    return lambda rows: torch.softmax(linear(states_nd[rows], weight_vd).float(), -1)
