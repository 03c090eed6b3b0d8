"""Best tokens and transitions of a directed acyclic graph, for the searches over it.

Shape letters: b sources, t vertices, m inner vertices, w candidate tokens, v vocabulary, i and j vertices of a
transition.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from retort.data.vocabulary import EOS, PAD
from retort.models.dag import DagModel


def read_graph(model: DagModel, source_bs: Tensor, impossible: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Best token of each vertex and its log-probability [b, t], transitions [b, i, j], and number of vertices [b].

    As ``read_candidates``.
    """
    token_bt1, log_prob_bt1, log_transitions_bij, vertices_b = read_candidates(model, source_bs, impossible, 1)
    return token_bt1[:, :, 0], log_prob_bt1[:, :, 0], log_transitions_bij, vertices_b


def read_candidates(
    model: DagModel, source_bs: Tensor, impossible: Sequence[int], count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Best tokens of each vertex and their log-probabilities [b, t, w], transitions [b, i, j], and number of vertices
    [b].

    Log-probabilities are in nats; that of a missing transition or candidate is -inf. Inner vertices emit text that is
    not ``impossible``, and the last one emits eos. The first one emits nothing (pad), with log-probability 0.
    """
    states_btd, vertices_b = model.decode_upsampled(source_bs, *model.encode(source_bs))
    place_t = torch.arange(states_btd.shape[1], device=source_bs.device)
    last_b = vertices_b - 1
    inner_bt = (place_t > 0) & (place_t < last_b[:, None])
    logits_mv = model.logits(states_btd[inner_bt]).float()
    normaliser_m = logits_mv.logsumexp(1)
    logits_mv[:, [*impossible, EOS]] = float("-inf")
    # the largest alone is found faster than the largest few
    best_mw, token_mw = logits_mv.max(1, keepdim=True) if count == 1 else logits_mv.topk(min(count, logits_mv.shape[1]))
    shape = (*inner_bt.shape, best_mw.shape[1])
    token_btw = torch.full(shape, PAD, device=source_bs.device)
    token_btw[inner_bt] = token_mw
    log_prob_btw = torch.full(shape, float("-inf"), device=source_bs.device)
    log_prob_btw[:, :, 0] = 0.0
    log_prob_btw[inner_bt] = best_mw - normaliser_m[:, None]
    rows = torch.arange(len(last_b), device=source_bs.device)
    log_prob_btw[rows, last_b, 0] = model.logits(states_btd[rows, last_b]).float().log_softmax(1)[:, EOS]
    token_btw[rows, last_b, 0] = EOS
    return token_btw, log_prob_btw, model.transitions(states_btd, vertices_b).log(), vertices_b
