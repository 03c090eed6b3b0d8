"""Output projection and label-smoothed cross entropy in one operation, chunk by chunk.

The logits of a batch are its largest tensor by far. Here they exist for some hundred positions at a time: each chunk
is projected, its loss and its gradient are taken in float32 at once, and only the gradients of the (small) states and
of the projection are kept for the backward pass.

Shape letters: n positions (only those that count), d width, v vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from retort.models.kernels import chunk_size


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, states_nd: Tensor, weight_vd: Tensor, target_n: Tensor, smoothing: float, counts_n: Tensor | None
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
            states, target = states_nd[rows], target_n[rows, None]
            counts_c = None if counts_n is None else counts_n[rows]
            logits = functional.linear(states, weight_vd).float()
            probabilities = torch.softmax(logits, -1)
            # cheaper than logsumexp: the largest probability is exp(largest logit - logsumexp)
            normaliser_n = logits.amax(-1) - probabilities.amax(-1).log()
            nll = _counted(normaliser_n - logits.gather(1, target)[:, 0], counts_c)
            plain += nll
            if smoothing:
                uniform = _counted(normaliser_n - logits.mean(-1), counts_c)
                smoothed += (1 - smoothing) * nll + smoothing * uniform
            if needs_gradient:
                gradient = probabilities.sub_(smoothing / v)
                gradient.scatter_add_(1, target, torch.full_like(target, smoothing - 1, dtype=gradient.dtype))
                gradient = gradient.to(states.dtype)
                torch.mm(gradient, weight_vd, out=states_gradient[rows])
                if counts_c is not None:
                    # what is as wide as a state is cheaper to scale than what is as wide as the vocabulary
                    states_gradient[rows] *= counts_c[:, None]
                    states = states * counts_c[:, None].to(states.dtype)
                weight_gradient += gradient.t() @ states
        if needs_gradient:
            ctx.save_for_backward(states_gradient, weight_gradient)
        return (smoothed if smoothing else plain.clone()), plain

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        return *scaled_gradients(ctx, gradients[0]), None, None, None


def _counted(loss_c: Tensor, counts_c: Tensor | None) -> Tensor:
    return loss_c.sum() if counts_c is None else (loss_c * counts_c).sum()


def scaled_gradients(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The saved gradients of states and projection, which were taken in the forward pass, times that of the loss."""
    states_gradient, weight_gradient = ctx.saved_tensors
    return states_gradient * scale.to(states_gradient.dtype), (weight_gradient * scale).to(states_gradient.dtype)


def linear_cross_entropy(
    states_nd: Tensor,
    weight_vd: Tensor,
    target_n: Tensor,
    label_smoothing: float = 0.0,
    counts_n: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Sums over positions: the label-smoothed cross entropy, and the plain one (detached), in nats, float32; each
    position counts ``counts_n`` (float32), or 1.

    Smoothing spreads its mass over all v classes, the target included (Szegedy et al. 2016, as torch's own).
    """
    loss, plain = _LinearCrossEntropy.apply(states_nd, weight_vd, target_n, label_smoothing, counts_n)
    return loss, plain.detach()
