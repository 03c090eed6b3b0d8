"""Prefix beam search over CTC's slots, against all alignments of tiny sentences."""

import itertools
import math

import numpy as np
import pytest

from retort.data.batches import Ragged
from retort.data.ngram_counts import NgramCounter
from retort.data.vocabulary import EOS
from retort.search.ngram_scores import Scorer
from retort.search.prefix_beam import prefix_beam, without_sure_blanks

TOKENS = [6, 7, 8]


def ngrams(order=3):
    counter = NgramCounter(order, 1000)
    counter.add(Ragged.from_lists([[6, 7], [7, 7, 8], [8, 6, 7], [6, 6], [7, 8, 6]]))
    return counter.model(9)


def slots_of(seed, rows=3, t=4):
    draws = np.random.default_rng(seed)
    probs = draws.dirichlet(np.ones(len(TOKENS) + 1) * 0.6, (rows, t))
    count = np.array([t, t - 1, t - 2])[:rows]
    inside = np.arange(t) < count[:, None]
    blank = np.where(inside, np.minimum(probs[:, :, 0], 0.98), 1.0)
    # each slot's candidates are in an order of their own
    order = np.argsort(-probs[:, :, 1:], 2)
    tokens = np.array(TOKENS)[order]
    return blank, tokens, np.take_along_axis(probs[:, :, 1:], order, 2) * inside[:, :, None], count


def best_by_enumeration(blank_t, tokens_tk, probs_tk, scorer):
    """The text with the largest log P + lm_weight x log p_LM + token_bonus x length, over all alignments."""
    texts = {}
    slots = zip(blank_t, tokens_tk, probs_tk, strict=True)
    options = [[(None, blank), *zip(tokens, probs, strict=True)] for blank, tokens, probs in slots]
    for choice in itertools.product(*options):
        text = tuple(int(token) for token, _ in itertools.groupby(c[0] for c in choice) if token is not None)
        texts[text] = texts.get(text, 0.0) + math.prod(c[1] for c in choice)

    def score(text):
        total, history = math.log(texts[text]), scorer.start(())
        for token in [*text, EOS]:
            value, history = scorer.extended(history, np.array(token))
            total += float(value)
        return total

    best = max((text for text in texts if texts[text]), key=score)
    return list(best), score(best)


@pytest.mark.parametrize(("lm_weight", "token_bonus"), [(0.0, 0.0), (0.7, 0.5), (1.5, 2.0)])
def test_a_wide_beam_finds_the_best_text_of_all(lm_weight, token_bonus):
    scorer = Scorer(ngrams() if lm_weight else None, lm_weight, token_bonus)
    for seed in range(3):
        blank, tokens, probs, count = slots_of(seed)
        texts, scores = prefix_beam(without_sure_blanks(blank, tokens, probs), scorer, beam_size=130)
        for row, t in enumerate(count):
            text, score = best_by_enumeration(blank[row, :t], tokens[row, :t], probs[row, :t], scorer)
            assert (texts[row], scores[row]) == (text, pytest.approx(score, abs=1e-4)), (seed, row)


def test_a_sentence_decodes_alone_as_in_a_batch_and_in_a_narrow_beam():
    scorer = Scorer(ngrams(), 0.7, 0.5)
    blank, tokens, probs, count = slots_of(9, t=12)
    texts, scores = prefix_beam(without_sure_blanks(blank, tokens, probs), scorer, beam_size=3)
    for row, t in enumerate(count):
        alone = without_sure_blanks(blank[row : row + 1, :t], tokens[row : row + 1, :t], probs[row : row + 1, :t])
        text, score = prefix_beam(alone, scorer, beam_size=3)
        assert text == [texts[row]] and score[0] == pytest.approx(scores[row], abs=1e-6)


def test_a_slot_that_is_surely_blank_is_a_blank():
    """It keeps equal neighbours apart, and takes no step."""
    token, scorer = np.array([[[6], [6], [6]]]), Scorer(None, 0.0, 0.0)
    probs = np.array([[[0.9], [0.004], [0.8]]])
    slots = without_sure_blanks(np.array([[0.1, 0.996, 0.2]]), token, probs)
    assert slots.blank_bt.tolist() == [[0.1, 0.2]] and slots.behind_blank_bt.tolist() == [[False, True]]
    texts, scores = prefix_beam(slots, scorer, beam_size=5)
    assert texts == [[6, 6]] and scores[0] == pytest.approx(math.log(0.9 * 0.8))
    everything_sure = without_sure_blanks(np.array([[0.995, 1.0]]), token[:, :2], probs[:, :2])
    assert prefix_beam(everything_sure, scorer, beam_size=5)[0] == [[]]
