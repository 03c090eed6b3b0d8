"""Output projection and symmetric Kullback-Leibler divergence in one operation, chunk by chunk.

As in ``cross_entropy``, logits exist for some hundred positions at a time, and gradients are taken with them.

Shape letters: k distributions, n positions, c positions of a chunk, d width, v vocabulary, p pairs of distributions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from retort.losses.cross_entropy import scaled_gradients
from retort.models.functional import chunk_size


class _LinearDivergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_knd: Tensor, weight_vd: Tensor, pairs: Mapping[tuple[int, int], float]) -> Tensor:
        k, n, d = states_knd.shape
        chunk = max(1, chunk_size(states_knd.device) // k)
        needs_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        total = torch.zeros((), dtype=torch.float32, device=states_knd.device)
        states_gradient = torch.empty_like(states_knd)
        weight_gradient = torch.zeros(weight_vd.shape, dtype=torch.float32, device=weight_vd.device)
        for start in range(0, n, chunk):
            states_kcd = states_knd[:, start : start + chunk]
            log_probs_kcv = torch.log_softmax(functional.linear(states_kcd, weight_vd).float(), -1)
            probs_kcv = log_probs_kcv.exp()
            gradient_kcv = torch.zeros_like(probs_kcv)
            for (i, j), weight in pairs.items():
                ratio_cv = log_probs_kcv[i] - log_probs_kcv[j]
                gap_cv = probs_kcv[i] - probs_kcv[j]
                there_c1 = (probs_kcv[i] * ratio_cv).sum(-1, keepdim=True)
                back_c1 = -(probs_kcv[j] * ratio_cv).sum(-1, keepdim=True)
                total += weight / 2 * (there_c1 + back_c1).sum()
                if needs_gradient:
                    gradient_kcv[i] += weight / 2 * (probs_kcv[i] * (ratio_cv - there_c1) + gap_cv)
                    gradient_kcv[j] -= weight / 2 * (probs_kcv[j] * (ratio_cv + back_c1) + gap_cv)
            if needs_gradient:
                gradient = gradient_kcv.to(weight_vd.dtype)
                states_gradient[:, start : start + chunk] = gradient @ weight_vd
                weight_gradient += gradient.flatten(0, 1).t() @ states_kcd.reshape(-1, d)
        if needs_gradient:
            ctx.save_for_backward(states_gradient, weight_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        return *scaled_gradients(ctx, gradients[0]), None


def linear_divergence(states_knd: Tensor, weight_vd: Tensor, pairs: Mapping[tuple[int, int], float]) -> Tensor:
    """Sum over positions and pairs (i, j) of the pair's weight times (KL(p_i || p_j) + KL(p_j || p_i)) / 2, where
    p_i is softmax(states_i weight'): nats, float32. Gradients flow into both."""
    return _LinearDivergence.apply(states_knd, weight_vd, pairs)  # type: ignore[no-any-return]
