"""Any loss of logits, computed chunk by chunk through the output projection.

As in cross_entropy.py, the logits of a whole batch never exist at once. Each chunk's are computed, used in float32 and
dropped. The gradients of the states and of the projection are kept for the backward pass.

Shape letters: n positions in the loss, c positions of a chunk, d width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from retort.models.kernels import chunk_size, linear

Score = Callable[[slice, Tensor], tuple[Tensor, Tensor]]
"""From a slice of the positions and their logits [c, v]: the losses [c] and their gradients [c, v], float32."""


class _ProjectedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_nd: Tensor, weight_vd: Tensor, score: Score, weights_n: Tensor | None) -> Tensor:
        chunk = chunk_size(states_nd.device)
        total = states_nd.new_zeros((), dtype=torch.float32)
        states_gradient = torch.empty_like(states_nd)
        weight_gradient = torch.zeros(weight_vd.shape, dtype=torch.float32, device=weight_vd.device)
        weight_dv = weight_vd.t().contiguous()
        for start in range(0, len(states_nd), chunk):
            rows = slice(start, start + chunk)
            states = states_nd[rows]
            loss_c, gradient = score(rows, linear(states, weight_vd).float())
            if weights_n is not None:
                loss_c, gradient = loss_c * weights_n[rows], gradient.mul_(weights_n[rows, None])
            total += loss_c.sum()
            gradient = gradient.to(states.dtype)
            states_gradient[rows] = linear(gradient, weight_dv)
            weight_gradient += linear(gradient.t(), states.t().contiguous())
        ctx.save_for_backward(states_gradient, weight_gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return *scaled_gradients(ctx, gradients[0]), None, None


def projected_loss(states_nd: Tensor, weight_vd: Tensor, score: Score, weights_n: Tensor | None = None) -> Tensor:
    """Weighted sum over positions of the losses that ``score`` gives the logits states weight'.

    ``weights_n`` are float32; None: all are 1. Differentiable in states and weight.
    """
    return _ProjectedLoss.apply(states_nd, weight_vd, score, weights_n)  # type: ignore[no-any-return]


def scaled_gradients(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of states and projection saved by the forward pass, times the gradient of the loss."""
    states_gradient, weight_gradient = ctx.saved_tensors
    return states_gradient * scale.to(states_gradient.dtype), (weight_gradient * scale).to(states_gradient.dtype)


def softmax_and_normaliser(logits: Tensor) -> tuple[Tensor, Tensor]:
    """softmax(logits) [..., v] and logsumexp(logits) [...]."""
    probabilities = torch.softmax(logits, -1)
    # cheaper than logsumexp: the largest probability is exp(largest logit - logsumexp)
    return probabilities, logits.amax(-1) - probabilities.amax(-1).log()
