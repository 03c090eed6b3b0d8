"""Paths through a directed acyclic graph of ordered vertices: the sum over all paths, and the best one.

A path starts at the first vertex, ends at the sentence's last one, and only moves forward. Its k-th vertex emits the
k-th token.

Shape letters: b batch, n token, i and j (or t) vertices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def sum_of_paths(emissions_nbt: Tensor, transitions_bij: Tensor, vertices_b: Tensor, length_b: Tensor) -> Tensor:
    """log of the summed probability of all paths of ``length_b`` vertices to the last of ``vertices_b``: nats [b].

    ``emissions_nbt``: log-probabilities of token n at each vertex. ``transitions_bij``: probabilities of the edge from
    i to j, 0 where there is none. -inf where no path fits. Differentiable in both. Computed in float64, so that an
    unlikely path does not underflow beside likelier ones.
    """
    return _SumOfPaths.apply(emissions_nbt, transitions_bij, vertices_b, length_b)  # type: ignore[no-any-return]


class _SumOfPaths(torch.autograd.Function):
    """The forward algorithm. Scores are scaled by their maximum, so that a step is a matrix product.

    The gradients are expected visits (Baum-Welch). A backward pass over the same scaled values computes them without a
    logarithm.
    """

    @staticmethod
    def forward(
        ctx: Any, emissions_nbt: Tensor, transitions_bij: Tensor, vertices_b: Tensor, length_b: Tensor
    ) -> Tensor:
        n, dtype = len(emissions_nbt), emissions_nbt.dtype
        on_a_path_nbt = _on_a_path(emissions_nbt, vertices_b, length_b)
        emissions_nbt = emissions_nbt.double().masked_fill(~on_a_path_nbt, float("-inf"))
        transitions_bij = transitions_bij.double()
        score_bt = emissions_nbt[0]
        scores_nbt, arrivals_nbt, scaled_nbt = (torch.empty_like(emissions_nbt) for _ in range(3))
        scores_nbt[0], arrivals_nbt[0] = score_bt, 1.0
        tiny = torch.finfo(score_bt.dtype).tiny
        for k in range(1, n):
            largest_b1 = score_bt.amax(1, keepdim=True)
            largest_b1 = torch.where(largest_b1.isfinite(), largest_b1, 0.0)
            scaled_nbt[k - 1] = (score_bt - largest_b1).exp()
            arrival_bt = torch.bmm(scaled_nbt[k - 1][:, None], transitions_bij)[:, 0]
            arrivals_nbt[k] = torch.where(arrival_bt < tiny, 0.0, arrival_bt)
            score_bt = arrivals_nbt[k].log() + largest_b1 + emissions_nbt[k]
            scores_nbt[k] = score_bt
        ctx.save_for_backward(transitions_bij, arrivals_nbt, scaled_nbt, vertices_b, length_b)
        rows = torch.arange(len(length_b), device=length_b.device)
        total_b = scores_nbt[length_b - 1, rows, vertices_b - 1]
        ctx.reached_b, ctx.dtype = total_b.isfinite(), dtype
        return total_b.to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        transitions_bij, arrivals_nbt, scaled_nbt, vertices_b, length_b = ctx.saved_tensors
        n = len(arrivals_nbt)
        # sentences without a path have gradient 0; the caller decides how to count them
        gradient_b = torch.where(ctx.reached_b, gradients[0], 0.0).double()
        visits_nbt, departures_nbt = torch.zeros_like(arrivals_nbt), torch.zeros_like(arrivals_nbt)
        rows = torch.arange(len(length_b), device=length_b.device)
        visits_nbt[length_b - 1, rows, vertices_b - 1] = ctx.reached_b.to(arrivals_nbt.dtype)
        for k in range(n - 1, 0, -1):
            # arrivals below the smallest normal number were set to 0, so this stays finite
            departures_nbt[k] = torch.where(visits_nbt[k] > 0, visits_nbt[k] / arrivals_nbt[k], 0.0)
            onward_bt = torch.bmm(transitions_bij, departures_nbt[k][:, :, None])[:, :, 0]
            visits_nbt[k - 1] += scaled_nbt[k - 1] * onward_bt
        from_btn = (scaled_nbt[: n - 1] * gradient_b[:, None]).permute(1, 2, 0)
        transitions_gradient = torch.bmm(from_btn, departures_nbt[1:].transpose(0, 1))
        # without an edge the gradient is unbounded, and would be infinite in the caller's precision
        transitions_gradient.masked_fill_(transitions_bij == 0, 0.0)
        emissions_gradient = visits_nbt * gradient_b[:, None]
        return emissions_gradient.to(ctx.dtype), transitions_gradient.to(ctx.dtype), None, None


def _on_a_path(emissions_nbt: Tensor, vertices_b: Tensor, length_b: Tensor) -> Tensor:
    """Boolean [n, b, t]: whether vertex t can emit token n on a complete path.

    It needs n vertices before it, and enough after it for the rest of the path. All other cells are dead ends, and
    their scores could be the largest ones and let the others underflow.
    """
    n, _, t = emissions_nbt.shape
    before_n11 = torch.arange(n, device=emissions_nbt.device)[:, None, None]
    place_t = torch.arange(t, device=emissions_nbt.device)
    behind_nb1 = (length_b - 1)[:, None] - before_n11
    return (place_t >= before_n11) & (place_t < vertices_b[:, None] - behind_nb1) & ((place_t == 0) | (before_n11 > 0))


def best_scores(emissions_nbt: Tensor, log_transitions_bij: Tensor) -> Tensor:
    """Log-probability [n, b, t] of the best partial path that emits its last token, token n, at vertex t."""
    scores_nbt = torch.empty(emissions_nbt.shape, dtype=emissions_nbt.dtype, device=emissions_nbt.device)
    scores_nbt[0] = float("-inf")
    scores_nbt[0, :, 0] = emissions_nbt[0, :, 0]
    for k in range(1, len(emissions_nbt)):
        scores_nbt[k] = (scores_nbt[k - 1][:, :, None] + log_transitions_bij).amax(1) + emissions_nbt[k]
    return scores_nbt


def best_path(scores_nbt: Tensor, log_transitions_bij: Tensor, vertices_b: Tensor, length_b: Tensor) -> Tensor:
    """Vertices [b, n] of the best path of ``length_b`` vertices, from ``best_scores``; 0 after its end."""
    n, b, t = scores_nbt.shape
    path_bn = torch.zeros(b, n, dtype=torch.long, device=scores_nbt.device)
    vertex_b = vertices_b - 1
    for k in range(n - 1, 0, -1):
        inside_b = k < length_b
        path_bn[:, k] = torch.where(inside_b, vertex_b, 0)
        into_bi = log_transitions_bij.gather(2, vertex_b[:, None, None].expand(-1, t, 1))[:, :, 0]
        vertex_b = torch.where(inside_b, (scores_nbt[k - 1] + into_bi).argmax(1), vertex_b)
    return path_bn
