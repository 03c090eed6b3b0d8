"""Greedy and lookahead decoding of a directed acyclic graph (Huang et al. 2022, section 3.3).

Every vertex points to its best successor, all at once; the output is what the vertices on the way from the first to the
last one say. A token equal to the one before it is dropped, as in the released code.

Shape letters: b sources, t vertices, i and j vertices of a transition.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import DagPath
from retort.data.vocabulary import PAD
from retort.models.dag import DagModel
from retort.search.base import Hypothesis, without_special
from retort.search.vertices import read_graph


@torch.inference_mode()
def search(model: DagModel, source_bs: Tensor, options: DagPath) -> list[list[Hypothesis]]:
    """One pass; the score is the log-probability of the path and its tokens, eos included, before any is dropped."""
    token_bt, log_prob_bt, log_transitions_bij, vertices_b = read_graph(model, source_bs)
    by_bij = log_transitions_bij
    if options.method == "lookahead":
        by_bij = by_bij + options.beta * log_prob_bt[:, None]
    next_bt = by_bij.argmax(2)
    place_t = torch.arange(next_bt.shape[1], device=source_bs.device)
    last_b1 = vertices_b[:, None] - 1
    next_bt = torch.where(place_t < last_b1, next_bt, place_t)
    visited_bt = on_the_way(next_bt)
    inner_bt = visited_bt & (place_t > 0) & (place_t < last_b1)
    step_bt = log_transitions_bij.gather(2, next_bt[:, :, None])[:, :, 0].masked_fill(place_t >= last_b1, 0.0)
    score_b = ((step_bt + log_prob_bt) * visited_bt).sum(1)
    tokens_bt = without_repeats(torch.where(inner_bt, token_bt, PAD), inner_bt)
    return [
        [Hypothesis(without_special(tokens), score, False, 1)]
        for tokens, score in zip(tokens_bt.tolist(), score_b.tolist(), strict=True)
    ]


def on_the_way(next_bt: Tensor) -> Tensor:
    """Boolean [b, t]: the vertices that are reached from the first one by following pointers, itself included.

    Pointers of 1, 2, 4, ... steps: each round doubles the part of the path that is known.
    """
    visited_bt = torch.zeros_like(next_bt)
    visited_bt[:, 0] = 1
    for _ in range((next_bt.shape[1] - 1).bit_length()):
        visited_bt = visited_bt.scatter_add(1, next_bt, visited_bt).clamp_(max=1)
        next_bt = next_bt.gather(1, next_bt)
    return visited_bt.bool()


def without_repeats(token_bt: Tensor, chosen_bt: Tensor) -> Tensor:
    """PAD in place of a chosen token that equals the chosen one before it."""
    place_t = torch.arange(token_bt.shape[1], device=token_bt.device)
    latest_bt = torch.where(chosen_bt, place_t, 0).cummax(1).values
    before_bt = token_bt.gather(1, latest_bt.roll(1, 1))
    repeated_bt = chosen_bt & (token_bt == before_bt)
    repeated_bt[:, 0] = False
    return token_bt.masked_fill(repeated_bt, PAD)
