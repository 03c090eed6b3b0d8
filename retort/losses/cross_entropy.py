"""Output projection and label-smoothed cross entropy in one operation, chunk by chunk.

The logits of a batch are its largest tensor by far. Here they exist for a few hundred positions at a time. Each chunk
is projected, and its loss and gradient are computed in float32 at once. Only the gradients of the (small) states and
of the projection are kept for the backward pass.

Shape letters: n positions in the loss, c positions of a chunk, d width, v vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from retort.losses.chunked_projection import scaled_gradients, softmax_and_normaliser
from retort.models.kernels import chunk_size


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states_nd: Tensor, weight_vd: Tensor, target_n: Tensor, smoothing: float, weights_n: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        chunk = chunk_size(states_nd.device)
        needs_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        v = weight_vd.shape[0]
        smoothed = states_nd.new_zeros((), dtype=torch.float32)
        plain = states_nd.new_zeros((), dtype=torch.float32)
        states_gradient = torch.empty_like(states_nd)
        weight_gradient = torch.zeros(weight_vd.shape, dtype=torch.float32, device=weight_vd.device)
        for start in range(0, len(states_nd), chunk):
            rows = slice(start, start + chunk)
            states = states_nd[rows]
            target = target_n[rows, None]
            weights_c = None if weights_n is None else weights_n[rows]
            logits = functional.linear(states, weight_vd).float()
            probabilities, normaliser_c = softmax_and_normaliser(logits)
            nll = _weighted_sum(normaliser_c - logits.gather(1, target)[:, 0], weights_c)
            plain += nll
            if smoothing:
                uniform = _weighted_sum(normaliser_c - logits.mean(-1), weights_c)
                smoothed += (1 - smoothing) * nll + smoothing * uniform
            if needs_gradient:
                gradient = probabilities.sub_(smoothing / v)
                gradient.scatter_add_(1, target, torch.full_like(target, smoothing - 1, dtype=gradient.dtype))
                gradient = gradient.to(states.dtype)
                torch.mm(gradient, weight_vd, out=states_gradient[rows])
                if weights_c is not None:
                    # scaling the d columns of states and of their gradient is cheaper than scaling v columns
                    states_gradient[rows] *= weights_c[:, None]
                    states = states * weights_c[:, None].to(states.dtype)
                weight_gradient += gradient.t() @ states
        if needs_gradient:
            ctx.save_for_backward(states_gradient, weight_gradient)
        return (smoothed if smoothing else plain.clone()), plain

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        return *scaled_gradients(ctx, gradients[0]), None, None, None


def _weighted_sum(loss_c: Tensor, weights_c: Tensor | None) -> Tensor:
    return loss_c.sum() if weights_c is None else (loss_c * weights_c).sum()


def linear_cross_entropy(
    states_nd: Tensor,
    weight_vd: Tensor,
    target_n: Tensor,
    label_smoothing: float = 0.0,
    weights_n: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Label-smoothed cross entropy, and the plain one (detached): weighted sums over positions, nats, float32.

    ``weights_n`` are float32; None: all are 1. Smoothing spreads its mass over all v classes, the target included
    (Szegedy et al. 2016, as in torch).
    """
    loss, plain = _LinearCrossEntropy.apply(states_nd, weight_vd, target_n, label_smoothing, weights_n)
    return loss, plain.detach()
