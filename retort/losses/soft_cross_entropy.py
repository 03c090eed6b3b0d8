"""Output projection and cross entropy with a whole distribution at each position, chunk by chunk.

As in cross_entropy.py neither logits nor distributions of a batch exist at once: each chunk's are made, used in
float32, and dropped; the gradients of the states and of the projection are kept for the backward pass.

Shape letters: n positions (only those that count), c positions of a chunk, d width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from retort.losses.cross_entropy import scaled_gradients
from retort.models.functional import chunk_size, linear

Distributions = Callable[[slice], Tensor]
"""Gives the distributions [c, v], float32 and each summing to one, of a slice of the positions."""


class _SoftCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states_nd: Tensor, weight_vd: Tensor, distributions: Distributions, counts_n: Tensor
    ) -> Tensor:
        chunk = chunk_size(states_nd.device)
        total = states_nd.new_zeros((), dtype=torch.float32)
        states_gradient = torch.empty_like(states_nd)
        weight_gradient = torch.zeros(weight_vd.shape, dtype=torch.float32, device=weight_vd.device)
        weight_dv = weight_vd.t().contiguous()
        for start in range(0, len(states_nd), chunk):
            rows = slice(start, start + chunk)
            states, counts_c1, target_cv = states_nd[rows], counts_n[rows, None], distributions(rows)
            logits = linear(states, weight_vd).float()
            probabilities = torch.softmax(logits, -1)
            # as in linear_cross_entropy: cheaper than logsumexp
            normaliser_c = logits.amax(-1) - probabilities.amax(-1).log()
            gradient = (probabilities.sub_(target_cv) * counts_c1).to(states.dtype)
            target_cv = target_cv * counts_c1
            total += (normaliser_c * counts_c1[:, 0]).sum() - torch.dot(target_cv.flatten(), logits.flatten())
            states_gradient[rows] = linear(gradient, weight_dv)
            weight_gradient += linear(gradient.t(), states.t().contiguous())
        ctx.save_for_backward(states_gradient, weight_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return *scaled_gradients(ctx, gradients[0]), None, None


def soft_cross_entropy(
    states_nd: Tensor, weight_vd: Tensor, distributions: Distributions, counts_n: Tensor | None = None
) -> Tensor:
    """Sum over positions of - sum_v q_v log softmax(states weight')_v, in nats, float32, each position counting
    ``counts_n`` (float32), or 1; differentiable in states and weight."""
    counts_n = torch.ones(len(states_nd), device=states_nd.device) if counts_n is None else counts_n
    return _SoftCrossEntropy.apply(states_nd, weight_vd, distributions, counts_n)  # type: ignore[no-any-return]


def softmax_distributions(states_nd: Tensor, weight_vd: Tensor, top_k: int | None = None) -> Distributions:
    """softmax(states weight'), or its ``top_k`` largest probabilities made to sum to one."""

    def distributions(rows: slice) -> Tensor:
        logits_cv = linear(states_nd[rows], weight_vd).float()
        if top_k is not None and top_k < logits_cv.shape[1]:
            best = logits_cv.topk(top_k, 1)
            logits_cv = torch.full_like(logits_cv, float("-inf")).scatter_(1, best.indices, best.values)
        return torch.softmax(logits_cv, -1)

    return distributions
