"""Beam search over a graph's paths, against all paths and tokens of tiny graphs."""

import itertools
import math

import numpy as np
import pytest

from retort.data.vocabulary import EOS, PAD
from retort.search.graph_beam import graph_beam, most_probable_successors
from retort.search.ngram_scores import Pruning, Scorer
from tests.unit.search.test_prefix_beam import ngram_score, ngrams

pytestmark = pytest.mark.usefixtures("way")


def graph(seed, vertices=6, w=2):
    """Transitions, log-probabilities of candidates and their tokens; the last vertex has eos alone."""
    draws = np.random.default_rng(seed)
    transitions, probs = np.zeros((vertices, vertices)), draws.dirichlet(np.ones(3), vertices)[:, :w]
    tokens = np.stack([draws.permutation([6, 7, 8])[:w] for _ in range(vertices)])
    for i in range(vertices - 1):
        transitions[i, i + 1 :] = draws.dirichlet(np.ones(vertices - 1 - i))
    probs[vertices - 1], probs[0] = 0, 0
    tokens[vertices - 1], probs[vertices - 1, 0] = [EOS, PAD][:w], 0.7
    with np.errstate(divide="ignore"):
        return np.log(transitions), np.log(probs), tokens


def best_by_enumeration(log_transitions, log_probs, tokens, limit, scorer):
    texts, last = {}, len(tokens) - 1
    for count in range(limit + 1):
        for inner in itertools.combinations(range(1, last), count):
            path = (0, *inner, last)
            way = sum(log_transitions[i, j] for i, j in itertools.pairwise(path))
            for choice in itertools.product(range(tokens.shape[1]), repeat=count):
                emitted = sum(log_probs[v, c] for v, c in zip(inner, choice, strict=True)) + log_probs[last, 0]
                text = tuple(int(tokens[v, c]) for v, c in zip(inner, choice, strict=True))
                texts[text] = texts.get(text, 0.0) + math.exp(way + emitted)
    best = max(texts, key=lambda text: math.log(texts[text]) + ngram_score(text, scorer))
    return list(best), math.log(texts[best]) + ngram_score(best, scorer)


def found(graph, scorer, limit, pruning):
    return graph_beam(most_probable_successors(*graph, pruning), scorer, limit, pruning)


@pytest.mark.parametrize(("lm_weight", "token_bonus"), [(0.0, 0.0), (0.6, 0.4), (1.0, 2.5), (0.5, -1.0)])
def test_a_wide_beam_finds_the_best_text_of_all(lm_weight, token_bonus):
    scorer = Scorer(ngrams() if lm_weight else None, lm_weight, token_bonus)
    for seed, limit in enumerate([4, 3, 2, 1, 4]):
        drawn = graph(seed, vertices=6 - seed % 2)
        text, score = best_by_enumeration(*drawn, limit, scorer)
        wide = Pruning(99, 2, 0.0, math.inf)
        assert found(drawn, scorer, limit, wide) == (text, pytest.approx(score, abs=1e-4)), seed


def test_thresholds_leave_out_what_is_improbable():
    scorer, scores = Scorer(ngrams(), 0.6, 0.4), []
    for seed in range(5):
        drawn = graph(seed, vertices=9)
        everything, pruned, greedy, single = (
            found(drawn, scorer, 7, Pruning(size, 2, min_share, threshold))
            for size, min_share, threshold in [(60, 0, math.inf), (10, 0.002, 3.0), (60, 0, 0.0), (60, 1, math.inf)]
        )
        assert pruned[0] == everything[0] and everything[1] - 0.3 < pruned[1] <= everything[1]
        assert -math.inf < single[1] <= everything[1]
        scores.append((greedy[1], everything[1]))
    assert all(low <= high for low, high in scores) and any(low < high - 0.5 for low, high in scores)


def test_a_text_that_is_too_long_is_not_found():
    scorer, drawn = Scorer(None, 0.0, 5.0), graph(6, vertices=8)
    lengths = [len(found(drawn, scorer, limit, Pruning(60, 2, 0.0, math.inf))[0]) for limit in range(4)]
    assert lengths == [0, 1, 2, 3]


def test_where_no_text_ends_within_the_limit_the_best_one_is_cut():
    """All paths lead over four vertices."""
    tokens = np.array([[PAD, PAD], [6, 7], [6, 7], [6, 7], [6, 7], [EOS, PAD]])
    with np.errstate(divide="ignore"):
        transitions = np.log(np.eye(6, k=1))
        drawn = transitions, np.log([[0, 0], [0.6, 0.3], [0.2, 0.7], [0.6, 0.3], [0.6, 0.3], [1, 0]]), tokens
    wide = Pruning(9, 2, 0.0, math.inf)
    texts = [found(drawn, Scorer(None, 0.0, 0.0), limit, wide) for limit in range(5)]
    cut = [([6, 7, 6, 6][:length], -math.inf) for length in range(4)]
    assert texts == [*cut, ([6, 7, 6, 6], pytest.approx(math.log(0.6 * 0.7 * 0.6 * 0.6)))]


def test_a_bonus_makes_a_long_text_better_than_one_that_ended():
    with np.errstate(divide="ignore"):
        transitions = np.log([[0, 0.1, 0, 0.9], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    drawn = transitions, np.zeros((4, 1)), np.array([[PAD], [6], [7], [EOS]])
    text, score = found(drawn, Scorer(None, 0.0, 2.0), 4, Pruning(9, 1, 0.0, math.inf))
    assert (text, score) == ([6, 7], pytest.approx(math.log(0.1) + 4))


def test_a_bonus_does_not_hide_what_is_within_the_threshold():
    with np.errstate(divide="ignore"):
        transitions = np.log([[0, 0.6, 0.4, 0], [0, 0, 0.9, 0.1], [0, 0, 0, 1], [0, 0, 0, 0]])
    drawn = transitions, np.zeros((4, 1)), np.array([[PAD], [6], [7], [EOS]])
    text, score = found(drawn, Scorer(None, 0.0, 5.0), 1, Pruning(9, 1, 0.0, 3.0))
    assert (text, score) == ([7], pytest.approx(math.log(0.4) + 5))
