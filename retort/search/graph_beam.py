"""Beam search over paths of a directed acyclic graph, with an n-gram model (Huang et al. 2022, section 3.3).

A hypothesis is a text and the vertex that emits its last token; its probability is summed over all paths of the beam
that emit this text. All sentences of a batch, all hypotheses and all of their successors are extended at once; there is
one step per token. numpy alone, since exported systems decode with it too.

Shape letters: b batch, i and j vertices, w candidate tokens of a vertex, k successors of a vertex (a later vertex and
one of its tokens), n hypotheses, c = n k continuations.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from retort.data.ngrams import History
from retort.search.ngram_scores import Scorer, best_places, extended_keys


class Successors(NamedTuple):
    """The most probable successors of each vertex."""

    log_prob_bik: np.ndarray
    """log of transition x token: nats; -inf where there is none."""
    vertex_bik: np.ndarray
    token_bik: np.ndarray
    last_b: np.ndarray
    """The vertex that ends a text, with eos."""


def most_probable_successors(
    log_transitions_bij: np.ndarray, log_prob_bjw: np.ndarray, token_bjw: np.ndarray, last_b: np.ndarray, count: int
) -> Successors:
    """At most ``count`` successors of each vertex. Candidates with log-probability -inf are none."""
    b, i, j = log_transitions_bij.shape
    w = log_prob_bjw.shape[2]
    count = min(count, j * w)
    log_prob_bik = np.empty((b, i, count), np.float32)
    place_bik = np.empty((b, i, count), np.int64)
    for row in range(b):  # all at once would need the memory of every vertex times every token, for the whole batch
        both = (log_transitions_bij[row, :, :, None] + log_prob_bjw[row]).reshape(i, j * w)
        place_bik[row] = best_places(both, count)
        log_prob_bik[row] = np.take_along_axis(both, place_bik[row], 1)
    vertex_bik = place_bik // w
    return Successors(
        log_prob_bik, vertex_bik, token_bjw[np.arange(b)[:, None, None], vertex_bik, place_bik % w], last_b
    )


def graph_beam(
    successors: Successors, scorer: Scorer, limits: list[int], beam_size: int
) -> tuple[list[list[int]], np.ndarray]:
    """The best text of each sentence, and its score [b]: log of its probability over the successors, plus the scorer's.

    ``limits`` are the longest texts, in tokens without eos. A sentence that no hypothesis ends is empty, with score
    -inf.
    """
    b, limit_b = len(limits), np.array(limits)
    row_b1 = np.arange(b)[:, None]
    vertex_bn, key_bn = np.zeros((b, 1), np.int64), np.zeros((b, 1), np.uint64)
    log_prob_bn, score_bn, history = np.zeros((b, 1)), np.zeros((b, 1)), scorer.start((b, 1))
    came_from: list[np.ndarray] = []
    said: list[np.ndarray] = []
    best_b, texts = np.full(b, -np.inf), [list[int]() for _ in limits]
    for length in range(int(limit_b.max()) + 1):
        from_b1 = (row_b1, vertex_bn)
        token_bnk, next_bnk = successors.token_bik[from_b1], successors.vertex_bik[from_b1]
        scores_bnk, longer = scorer.extended(History(*(x[:, :, None] for x in history)), token_bnk)
        grown_bc = (log_prob_bn[:, :, None] + successors.log_prob_bik[from_b1]).reshape(b, -1)
        keys_bc = extended_keys(key_bn[:, :, None], token_bnk).reshape(b, -1)
        next_bc, token_bc = next_bnk.reshape(b, -1), token_bnk.reshape(b, -1)
        grown_bc = _merged(grown_bc, keys_bc, next_bc)
        sums_bc = (score_bn[:, :, None] + scores_bnk).reshape(b, -1)
        total_bc = grown_bc + sums_bc
        ends_bc = next_bc == successors.last_b[:, None]
        ended_bc = np.where(ends_bc & (length <= limit_b)[:, None], total_bc, -np.inf)
        for row in (ended_bc.max(1) > best_b).nonzero()[0]:
            place = int(ended_bc[row].argmax())
            best_b[row] = ended_bc[row, place]
            texts[row] = _traced(row, place // token_bnk.shape[2], came_from, said)
        open_bc = np.where(ends_bc, -np.inf, total_bc)
        # no text gets better than its beginning by more than the bonus of the tokens to come
        most_b = open_bc.max(1) + max(0.0, scorer.token_bonus) * (limit_b - length)
        if (most_b <= best_b).all():
            break
        chosen_bn = best_places(open_bc, beam_size)
        chosen = (row_b1, chosen_bn)
        came_from.append(chosen_bn // token_bnk.shape[2])
        said.append(token_bc[chosen])
        vertex_bn, key_bn, score_bn = next_bc[chosen], keys_bc[chosen], sums_bc[chosen]
        log_prob_bn = np.where(open_bc[chosen] > -np.inf, grown_bc[chosen], -np.inf)
        history = History(*(x[row_b1, came_from[-1], chosen_bn % token_bnk.shape[2]] for x in longer))
    return texts, best_b


def _merged(log_prob_bc: np.ndarray, keys_bc: np.ndarray, vertex_bc: np.ndarray) -> np.ndarray:
    """Log-probabilities where equal texts at one vertex are one continuation, the first, with the sum of all."""
    same_bcc = (keys_bc[:, :, None] == keys_bc[:, None]) & (vertex_bc[:, :, None] == vertex_bc[:, None])
    first_bc = same_bcc.argmax(2) == np.arange(same_bcc.shape[1])
    largest_b1 = np.maximum(log_prob_bc.max(1, keepdims=True), -1e30)
    sums_bc = (same_bcc * np.exp(log_prob_bc - largest_b1)[:, None]).sum(2)
    with np.errstate(divide="ignore"):
        return np.where(first_bc, np.log(sums_bc) + largest_b1, -np.inf)


def _traced(row: int, place: int, came_from: list[np.ndarray], said: list[np.ndarray]) -> list[int]:
    """The tokens that led to a hypothesis."""
    tokens = []
    for from_bn, token_bn in zip(reversed(came_from), reversed(said), strict=True):
        tokens.append(int(token_bn[row, place]))
        place = int(from_bn[row, place])
    return tokens[::-1]
