"""Beam search over a graph's paths, against all paths and tokens of tiny graphs."""

import itertools
import math

import numpy as np
import pytest

from retort.data.vocabulary import EOS, PAD
from retort.search.graph_beam import graph_beam, most_probable_successors
from retort.search.ngram_scores import Scorer
from tests.unit.search.test_prefix_beam import ngrams


def graphs(seed, vertices=(6, 5), w=2):
    """Transitions, log-probabilities of candidates and their tokens; the last vertex has eos alone."""
    draws = np.random.default_rng(seed)
    b, t = len(vertices), max(vertices)
    transitions, probs = np.zeros((b, t, t)), draws.dirichlet(np.ones(3), (b, t))[:, :, :w]
    tokens = np.stack([[draws.permutation([6, 7, 8])[:w] for _ in range(t)] for _ in range(b)])
    for row, count in enumerate(vertices):
        for i in range(count - 1):
            transitions[row, i, i + 1 : count] = draws.dirichlet(np.ones(count - 1 - i))
        probs[row, count - 1 :], probs[row, 0] = 0, 0
        tokens[row, count - 1], probs[row, count - 1, 0] = [EOS, PAD][:w], 0.7
    with np.errstate(divide="ignore"):
        return np.log(transitions), np.log(probs), tokens, np.array(vertices) - 1


def best_by_enumeration(log_transitions, log_probs, tokens, last, limit, scorer):
    texts = {}
    for count in range(limit + 1):
        for inner in itertools.combinations(range(1, last), count):
            path = (0, *inner, last)
            way = sum(log_transitions[i, j] for i, j in itertools.pairwise(path))
            for choice in itertools.product(range(tokens.shape[1]), repeat=count):
                emitted = sum(log_probs[v, c] for v, c in zip(inner, choice, strict=True)) + log_probs[last, 0]
                text = tuple(int(tokens[v, c]) for v, c in zip(inner, choice, strict=True))
                texts[text] = texts.get(text, 0.0) + math.exp(way + emitted)

    def score(text):
        total, history = math.log(texts[text]), scorer.start(())
        for token in [*text, EOS]:
            value, history = scorer.extended(history, np.array(token))
            total += float(value)
        return total

    best = max((text for text in texts if texts[text] > 0), key=score)
    return list(best), score(best)


@pytest.mark.parametrize(("lm_weight", "token_bonus"), [(0.0, 0.0), (0.6, 0.4), (1.0, 2.5)])
def test_a_wide_beam_finds_the_best_text_of_all(lm_weight, token_bonus):
    scorer = Scorer(ngrams() if lm_weight else None, lm_weight, token_bonus)
    for seed, limits in enumerate([[4, 4], [4, 3], [2, 1]]):
        graph = graphs(seed)
        texts, scores = graph_beam(most_probable_successors(*graph, count=99), scorer, limits, beam_size=40)
        for row, limit in enumerate(limits):
            text, score = best_by_enumeration(*(part[row] for part in graph), limit, scorer)
            assert (texts[row], scores[row]) == (text, pytest.approx(score, abs=1e-4)), (seed, row)


def test_a_sentence_decodes_alone_as_in_a_batch_and_in_a_narrow_beam():
    scorer, graph = Scorer(ngrams(), 0.6, 0.4), graphs(5, vertices=(9, 7))
    texts, scores = graph_beam(most_probable_successors(*graph, count=3), scorer, [7, 5], beam_size=2)
    for row, count in enumerate((9, 7)):
        transitions, log_probs, tokens, last = (part[row : row + 1] for part in graph)
        alone = most_probable_successors(
            transitions[:, :count, :count], log_probs[:, :count], tokens[:, :count], last, count=3
        )
        text, score = graph_beam(alone, scorer, [[7, 5][row]], beam_size=2)
        assert text == [texts[row]] and score[0] == pytest.approx(scores[row], abs=1e-6)
