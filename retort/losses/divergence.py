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
        # several tensors of a chunk exist at once, which the processor's cache should hold
        chunk = max(1, chunk_size(states_knd.device) // (4 * k))
        needs_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        total = torch.zeros((), dtype=torch.float32, device=states_knd.device)
        states_gradient = torch.empty_like(states_knd)
        weight_gradient = torch.zeros(weight_vd.shape, dtype=torch.float32, device=weight_vd.device)
        laplacian_kk = _laplacian(pairs, k).to(states_knd.device)
        for start in range(0, n, chunk):
            states_kcd = states_knd[:, start : start + chunk]
            log_probs_kcv = torch.log_softmax(functional.linear(states_kcd, weight_vd).float(), -1)
            probs_kcv = log_probs_kcv.exp()
            ratio_kcv = _differences(laplacian_kk, log_probs_kcv)
            mean_kc1 = torch.linalg.vecdot(probs_kcv, ratio_kcv)[..., None]
            total += mean_kc1.sum()
            if needs_gradient:
                gradient_kcv = ratio_kcv.sub_(mean_kc1).mul_(probs_kcv).add_(_differences(laplacian_kk, probs_kcv))
                gradient = gradient_kcv.to(weight_vd.dtype)
                states_gradient[:, start : start + chunk] = gradient @ weight_vd
                weight_gradient += gradient.flatten(0, 1).t() @ states_kcd.reshape(-1, d)
        if needs_gradient:
            ctx.save_for_backward(states_gradient, weight_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        return *scaled_gradients(ctx, gradients[0]), None


def _laplacian(pairs: Mapping[tuple[int, int], float], k: int) -> Tensor:
    """Half the Laplacian of the pairs' weights [k, k]: row i of its product with some numbers x [k] is the sum over the
    pairs of i of weight / 2 times (x_i - x_j)."""
    laplacian_kk = torch.zeros(k, k)
    for (i, j), weight in pairs.items():
        laplacian_kk[[i, j], [i, j]] += weight / 2
        laplacian_kk[[i, j], [j, i]] -= weight / 2
    return laplacian_kk


def _differences(laplacian_kk: Tensor, x_kcv: Tensor) -> Tensor:
    return (laplacian_kk @ x_kcv.flatten(1)).view_as(x_kcv)


def linear_divergence(states_knd: Tensor, weight_vd: Tensor, pairs: Mapping[tuple[int, int], float]) -> Tensor:
    """Sum over positions and pairs (i, j) of the pair's weight times (KL(p_i || p_j) + KL(p_j || p_i)) / 2, where
    p_i is softmax(states_i weight'): nats, float32. Gradients flow into both."""
    return _LinearDivergence.apply(states_knd, weight_vd, pairs)  # type: ignore[no-any-return]
