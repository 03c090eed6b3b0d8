"""Beam search over paths of a directed acyclic graph, with an n-gram model (Huang et al. 2022, section 3.3).

A hypothesis is a text and the vertex that emits its last token; its probability is summed over all paths of the beam
that emit this text. There is one step per token, one sentence at a time. As for CTC (``retort.search.prefix_beam``),
numpy takes longer for its calls than for a step's arithmetic: the search is compiled, and where it could not be built
it is plain Python.

Shape letters: i and j vertices, w candidate tokens of a vertex, m successors of all vertices, vertex by vertex.
"""

from __future__ import annotations

from heapq import heapify, heapreplace, nlargest
from itertools import pairwise
from math import exp, inf, log1p
from typing import NamedTuple

import numpy as np

from retort.data.vocabulary import EOS
from retort.search import native
from retort.search.candidates import most_probable_pairs
from retort.search.ngram_scores import Pruning, Scorer
from retort.search.texts import Text

Hypothesis = tuple[float, float, int, Text]
"""Total, log-probability, last vertex and text."""


class Successors(NamedTuple):
    """The most probable successors of each vertex but the last one. The last one is no m."""

    first_i: np.ndarray
    """The m at which those of each vertex begin, and the number of all."""
    log_prob_m: np.ndarray
    """log of transition x token in nats, the most probable of a vertex first."""
    vertex_m: np.ndarray
    token_m: np.ndarray
    end_i: np.ndarray
    """log of the transition to the last vertex x eos: -inf where that is no successor."""


def most_probable_successors(
    log_transitions_ij: np.ndarray, log_prob_jw: np.ndarray, token_jw: np.ndarray, pruning: Pruning
) -> Successors:
    """At most ``beam_size`` successors of each vertex, those that have ``min_share`` of the best one's probability.

    What has log-probability -inf is none. The last vertex has one candidate, eos, which ends a text.
    """
    last, w = len(log_transitions_ij) - 1, log_prob_jw.shape[1]
    row_m, place_m = most_probable_pairs(log_transitions_ij[:last], log_prob_jw, pruning.beam_size, pruning.min_share)
    vertex_m, rank_m = np.divmod(place_m, w)
    log_prob_m = log_transitions_ij[row_m, vertex_m] + log_prob_jw[vertex_m, rank_m]
    token_m = token_jw[vertex_m, rank_m]
    end_i, ends_m = np.full(last, -inf), vertex_m == last
    end_i[row_m[ends_m]] = log_prob_m[ends_m]
    row_m, log_prob_m, vertex_m, token_m = (of_m[~ends_m] for of_m in (row_m, log_prob_m, vertex_m, token_m))
    return Successors(row_m.searchsorted(np.arange(last + 1)), log_prob_m, vertex_m, token_m, end_i)


def graph_beam(successors: Successors, scorer: Scorer, limit: int, pruning: Pruning) -> tuple[list[int], float]:
    """The best text, and its score: log of its probability over the successors, plus the scorer's.

    ``limit`` is the longest text, in tokens without eos. Where no hypothesis ends by then the text is that of the best
    one, cut, and its score -inf.
    """
    if functions := native.library():
        return native.graph_beam(functions, *successors, scorer=scorer, limit=limit, pruning=pruning)
    return plain_graph_beam(successors, scorer, limit, pruning)


def plain_graph_beam(successors: Successors, scorer: Scorer, limit: int, pruning: Pruning) -> tuple[list[int], float]:
    """The same in Python."""
    firsts, *columns, ends = (array.tolist() for array in successors)
    flat = list(zip(*columns, strict=True))
    inner = [flat[i:j] for i, j in pairwise(firsts)]
    empty = Text.empty(scorer)
    beam: list[Hypothesis] = [(0.0, 0.0, 0, empty)]
    best, best_text = -inf, empty
    for length in range(limit + 1):
        if best == -inf:
            best_text = beam[0][-1]
        for text, log_prob in _ended(beam, ends).items():
            if (total := log_prob + text.ngrams + text.score(EOS, scorer)) > best:
                best, best_text = total, text
        grown = _grown(beam, inner, scorer, pruning)
        most = max((hypothesis[0] for hypothesis in grown), default=-inf)
        # no text gets better than its beginning by more than the bonus of the tokens to come
        if most + scorer.largest * (limit - length) <= best:
            break
        beam = nlargest(pruning.beam_size, [h for h in grown if h[0] >= most - pruning.threshold], key=_total)
    tokens = best_text.tokens()
    empty.release()
    return tokens, best


def _ended(beam: list[Hypothesis], ends: list[float]) -> dict[Text, float]:
    """Log-probabilities of the texts that end here."""
    ended: dict[Text, float] = {}
    for _, log_prob, vertex, text in beam:
        if (end := ends[vertex]) > -inf:
            _add(ended, text, log_prob + end)
    return ended


def _grown(
    beam: list[Hypothesis], inner: list[list[tuple[float, int, int]]], scorer: Scorer, pruning: Pruning
) -> list[Hypothesis]:
    """The hypotheses with a token more, each once.

    Paths that are ``threshold`` worse than the best so far are not added to their texts. Nor is one tried that would
    be the first to its text and vertex, and is worse than ``beam_size`` others.
    """
    grown: dict[int, dict[Text, float]] = {}
    size, threshold, largest = pruning.beam_size, pruning.threshold, scorer.largest
    floor = least = -inf
    totals: list[float] = []
    for before, log_before, vertex, text in beam:
        children = text.children
        for log_prob, later, token in inner[vertex]:
            highest = before + log_prob + largest
            if highest < floor:
                break
            if token in children:
                child = children[token]
            elif highest < least:
                continue
            else:
                child = _child(text, token, scorer)
            total = log_before + log_prob + child.ngrams
            if total < floor:
                continue
            texts = grown.setdefault(later, {})
            if child in texts:
                _add(texts, child, log_before + log_prob)
            elif total >= least:
                texts[child] = log_before + log_prob
                floor = max(floor, total - threshold)
                if len(totals) == size:
                    heapreplace(totals, total)
                else:
                    totals.append(total)
                    if len(totals) < size:
                        continue
                    heapify(totals)
                least = totals[0]
    return [
        (log_prob + text.ngrams, log_prob, vertex, text)
        for vertex, texts in grown.items()
        for text, log_prob in texts.items()
    ]


def _add(log_probs: dict[Text, float], text: Text, log_prob: float) -> None:
    """Add to the probability of a text."""
    if text not in log_probs:
        log_probs[text] = log_prob
    else:
        low, high = sorted((log_prob, log_probs[text]))
        log_probs[text] = high + log1p(exp(low - high))


def _child(text: Text, token: int, scorer: Scorer) -> Text:
    """The text with a token more."""
    child = text.children[token] = Text(token, text, text.ngrams + text.score(token, scorer))
    return child


def _total(hypothesis: Hypothesis) -> float:
    return hypothesis[0]
