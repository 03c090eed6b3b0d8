"""Cross entropies of several distributions of the same tokens, and the symmetric divergences between them.

The output projection, the cross entropies and the Kullback-Leibler divergences are one operation. As in
``cross_entropy``, logits exist for a few hundred positions at a time, and gradients are computed with them.

Shape letters: k distributions, n positions, c positions of a chunk, d width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from retort.losses.chunked_projection import scaled_gradients
from retort.models.kernels import chunk_size

Pairs = Mapping[tuple[int, int], float]
"""Weights of the divergences, by the indices of the two distributions; a pair that is left out has weight 0."""


class DivergenceLoss(NamedTuple):
    """Sums over positions, nats, float32."""

    total: Tensor
    """Weighted cross entropies and divergences."""
    nll_k: Tensor
    """The cross entropies [k], neither smoothed nor weighted; detached."""
    divergence: Tensor
    """The part of the total that is weighted divergences; detached."""


class _CrossEntropiesAndDivergences(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states_knd: Tensor,
        weight_vd: Tensor,
        target_n: Tensor,
        weight_k: Tensor,
        smoothing: float,
        pairs: Pairs,
    ) -> tuple[Tensor, Tensor, Tensor]:
        k, n, d = states_knd.shape
        v = weight_vd.shape[0]
        # the processor's cache should hold the several tensors of a chunk
        chunk = max(1, chunk_size(states_knd.device) // (4 * k))
        needs_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        divergence = torch.zeros((), dtype=torch.float32, device=states_knd.device)
        nll_k, uniform_k = divergence.new_zeros(k), divergence.new_zeros(k)
        states_gradient = torch.empty_like(states_knd)
        weight_gradient = torch.zeros(weight_vd.shape, dtype=torch.float32, device=weight_vd.device)
        laplacian_kk = _laplacian(pairs, k).to(states_knd.device)
        mixing_kk = laplacian_kk + weight_k.diag()
        off_target_k11 = (weight_k * (smoothing / v))[:, None, None]
        on_target_k11 = (weight_k * (smoothing - 1))[:, None, None]
        for start in range(0, n, chunk):
            states_kcd = states_knd[:, start : start + chunk]
            target_kc1 = target_n[start : start + chunk, None].expand(k, -1, -1)
            log_probs_kcv = torch.log_softmax(functional.linear(states_kcd, weight_vd).float(), -1)
            nll_k -= log_probs_kcv.gather(2, target_kc1).sum((1, 2))
            if smoothing:
                uniform_k -= log_probs_kcv.mean(-1).sum(1)
            if not (pairs or needs_gradient):
                continue
            probs_kcv = log_probs_kcv.exp()
            gradient_kcv = _mixed(mixing_kk, probs_kcv) if needs_gradient else probs_kcv
            if pairs:
                ratio_kcv = _mixed(laplacian_kk, log_probs_kcv)
                mean_kc1 = torch.linalg.vecdot(probs_kcv, ratio_kcv)[..., None]
                divergence += mean_kc1.sum()
                if needs_gradient:
                    gradient_kcv.add_(ratio_kcv.sub_(mean_kc1).mul_(probs_kcv))
            if needs_gradient:
                if smoothing:
                    gradient_kcv.sub_(off_target_k11)
                gradient_kcv.scatter_add_(2, target_kc1, on_target_k11.expand(target_kc1.shape))
                gradient = gradient_kcv.to(weight_vd.dtype)
                states_gradient[:, start : start + chunk] = gradient @ weight_vd
                weight_gradient += gradient.flatten(0, 1).t() @ states_kcd.reshape(-1, d)
        if needs_gradient:
            ctx.save_for_backward(states_gradient, weight_gradient)
        smoothed_k = (1 - smoothing) * nll_k + smoothing * uniform_k
        return weight_k @ smoothed_k + divergence, nll_k, divergence

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        return *scaled_gradients(ctx, gradients[0]), None, None, None, None


def _laplacian(pairs: Pairs, k: int) -> Tensor:
    """Half the graph Laplacian of the pairs' weights [k, k].

    Row i of its product with x [k] is the sum over the pairs (i, j) of weight / 2 times (x_i - x_j).
    """
    laplacian_kk = torch.zeros(k, k)
    for (i, j), weight in pairs.items():
        laplacian_kk[[i, j], [i, j]] += weight / 2
        laplacian_kk[[i, j], [j, i]] -= weight / 2
    return laplacian_kk


def _mixed(mixing_kk: Tensor, x_kcv: Tensor) -> Tensor:
    return (mixing_kk @ x_kcv.flatten(1)).view_as(x_kcv)


def cross_entropies_and_divergences(
    states_knd: Tensor, weight_vd: Tensor, target_n: Tensor, weight_k: Tensor, label_smoothing: float, pairs: Pairs
) -> DivergenceLoss:
    """Cross entropies and symmetric divergences of the distributions p_i = softmax(states_i weight').

    The total has ``weight_k`` (float32) times the cross entropies with the targets, smoothed as in
    ``linear_cross_entropy``. For each pair (i, j) it adds the weight times (KL(p_i || p_j) + KL(p_j || p_i)) / 2. It is
    differentiable in states and weight.
    """
    pairs = {pair: weight for pair, weight in pairs.items() if weight}
    total, nll_k, divergence = _CrossEntropiesAndDivergences.apply(
        states_knd, weight_vd, target_n, weight_k, label_smoothing, pairs
    )
    return DivergenceLoss(total, nll_k.detach(), divergence.detach())
