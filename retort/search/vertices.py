"""Best tokens and transitions of a directed acyclic graph, for the searches over it.

Shape letters: b sources, t vertices, m inner vertices, v vocabulary, i and j vertices of a transition.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from retort.data.vocabulary import EOS, PAD
from retort.models.dag import DagModel


def read_graph(model: DagModel, source_bs: Tensor, impossible: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Best token of each vertex and its log-probability [b, t], transitions [b, i, j], and number of vertices [b].

    Log-probabilities are in nats; that of a missing transition is -inf. Inner vertices emit text that is not
    ``impossible``, and the last one emits eos. The first one emits nothing (pad), with log-probability 0.
    """
    states_btd, vertices_b = model.decode_upsampled(source_bs, *model.encode(source_bs))
    place_t = torch.arange(states_btd.shape[1], device=source_bs.device)
    last_b = vertices_b - 1
    inner_bt = (place_t > 0) & (place_t < last_b[:, None])
    logits_mv = model.logits(states_btd[inner_bt]).float()
    normaliser_m = logits_mv.logsumexp(1)
    logits_mv[:, [*impossible, EOS]] = float("-inf")
    best_m, best_token_m = logits_mv.max(1)
    token_bt = torch.full(inner_bt.shape, PAD, device=source_bs.device)
    token_bt[inner_bt] = best_token_m
    log_prob_bt = torch.zeros(inner_bt.shape, device=source_bs.device)
    log_prob_bt[inner_bt] = best_m - normaliser_m
    rows = torch.arange(len(last_b), device=source_bs.device)
    log_prob_bt[rows, last_b] = model.logits(states_btd[rows, last_b]).float().log_softmax(1)[:, EOS]
    token_bt[rows, last_b] = EOS
    return token_bt, log_prob_bt, model.transitions(states_btd, vertices_b).log(), vertices_b
