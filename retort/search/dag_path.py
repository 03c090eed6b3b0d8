"""Greedy and lookahead decoding of a directed acyclic graph (Huang et al. 2022, section 3.3).

All vertices select their best successor at once. The output is the tokens of the vertices on the path from the first
vertex to the last one. A token equal to the one before it is dropped, as in the released code.

Shape letters: b sources, t vertices, i and j vertices of a transition.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import DagPath
from retort.data.vocabulary import PAD
from retort.models.dag import DagModel
from retort.search.base import Hypothesis, no_output, one_pass_outputs
from retort.search.vertices import read_graph


@torch.inference_mode()
def search(model: DagModel, source_bs: Tensor, options: DagPath) -> list[list[Hypothesis]]:
    """One pass; the score is the log-probability of the path and its tokens in nats, including eos and repeats."""
    token_bt, log_prob_bt, log_transitions_bij, vertices_b = read_graph(model, source_bs, no_output(options))
    criterion_bij = log_transitions_bij
    if options.method == "lookahead":
        criterion_bij = criterion_bij + options.beta * log_prob_bt[:, None]
    next_bt = criterion_bij.argmax(2)
    place_t = torch.arange(next_bt.shape[1], device=source_bs.device)
    last_b1 = vertices_b[:, None] - 1
    next_bt = torch.where(place_t < last_b1, next_bt, place_t)
    visited_bt = on_the_way(next_bt)
    inner_bt = visited_bt & (place_t > 0) & (place_t < last_b1)
    step_bt = log_transitions_bij.gather(2, next_bt[:, :, None])[:, :, 0].masked_fill(place_t >= last_b1, 0.0)
    score_b = ((step_bt + log_prob_bt) * visited_bt).sum(1)
    tokens_bt = without_repeats(torch.where(inner_bt, token_bt, PAD), inner_bt)
    return one_pass_outputs(tokens_bt, score_b, log_prob_bt)


def on_the_way(next_bt: Tensor) -> Tensor:
    """Vertices on the path from the first one, which is included: boolean [b, t]; ``next_bt``: successors.

    Pointers are doubled (1, 2, 4, ... steps), so that log2(t) rounds suffice.
    """
    visited_bt = torch.zeros_like(next_bt)
    visited_bt[:, 0] = 1
    for _ in range((next_bt.shape[1] - 1).bit_length()):
        visited_bt = visited_bt.scatter_add(1, next_bt, visited_bt).clamp_(max=1)
        next_bt = next_bt.gather(1, next_bt)
    return visited_bt.bool()


def without_repeats(token_bt: Tensor, selected_bt: Tensor) -> Tensor:
    """Tokens [b, t], with pad in place of a selected token that equals the selected one before it."""
    place_t = torch.arange(token_bt.shape[1], device=token_bt.device)
    latest_bt = torch.where(selected_bt, place_t, 0).cummax(1).values
    before_bt = token_bt.gather(1, latest_bt.roll(1, 1))
    repeated_bt = selected_bt & (token_bt == before_bt)
    repeated_bt[:, 0] = False
    return token_bt.masked_fill(repeated_bt, PAD)
