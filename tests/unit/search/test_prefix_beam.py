"""Prefix beam search over CTC's slots, against all alignments of tiny sentences."""

import gc
import itertools
import math

import numpy as np
import pytest

from retort.config import CtcBeam
from retort.data.batches import Ragged
from retort.data.ngram_counts import NgramCounter
from retort.data.vocabulary import EOS
from retort.search import ngram_scores
from retort.search.candidates import most_probable
from retort.search.ngram_scores import Pruning, Scorer
from retort.search.prefix_beam import prefix_beam

TOKENS = [6, 7, 8]
pytestmark = pytest.mark.usefixtures("way")


def ngrams(order=3):
    counter = NgramCounter(order, 1000)
    counter.add(Ragged.from_lists([[6, 7], [7, 7, 8], [8, 6, 7], [6, 6], [7, 8, 6]]))
    return counter.model(9)


def distributions(seed, t=4):
    """Probabilities [t, 4] of the blank and of TOKENS in each slot."""
    return np.random.default_rng(seed).dirichlet(np.ones(len(TOKENS) + 1) * 0.6, t)


def pruning(beam_size, min_share=0.0, threshold=math.inf):
    return Pruning(beam_size, len(TOKENS), min_share, threshold)


@pytest.mark.parametrize(("threshold", "nats"), [(3, 3), (None, math.inf)])
def test_what_a_search_tries_is_what_its_section_says(threshold, nats):
    options = CtcBeam(kind="ctc_beam", beam_size=7, candidates=4, min_share=0.25, beam_threshold=threshold)
    assert Pruning.of(options.model_dump()) == Pruning(7, 4, 0.25, nats)


def found(probs, scorer, by):
    """Text and score of the search."""
    log_probs = np.log(probs[:, 1:])
    row, column = most_probable(log_probs, by.candidates, by.min_share, np.log(probs.max(1)))
    given = probs[:, 0], row, np.array(TOKENS)[column], log_probs[row, column]
    return prefix_beam(*given, scorer=scorer, pruning=by)


def best_by_enumeration(probs, scorer):
    """The text with the largest log P + lm_weight x log p_LM + token_bonus x length, over all alignments."""
    texts = {}
    for choice in itertools.product(*(zip([None, *TOKENS], slot, strict=True) for slot in probs)):
        text = tuple(token for token, _ in itertools.groupby(c[0] for c in choice) if token is not None)
        texts[text] = texts.get(text, 0.0) + math.prod(c[1] for c in choice)

    best = max(texts, key=lambda text: math.log(texts[text]) + ngram_score(text, scorer))
    return list(best), math.log(texts[best]) + ngram_score(best, scorer)


def ngram_score(text, scorer):
    """The scorer's sum, eos included."""
    total, context = 0.0, scorer.start()
    for token in [*text, EOS]:
        total, context = total + scorer.score(context, token), scorer.extended(context, token)
    return total


@pytest.mark.parametrize(("lm_weight", "token_bonus"), [(0.0, 0.0), (0.7, 0.5), (1.5, 2.0), (0.3, -1.0)])
def test_a_wide_beam_finds_the_best_text_of_all(lm_weight, token_bonus):
    scorer = Scorer(ngrams() if lm_weight else None, lm_weight, token_bonus)
    for seed in range(6):
        probs = distributions(seed, t=2 + seed % 4)
        text, score = best_by_enumeration(probs, scorer)
        assert found(probs, scorer, pruning(400)) == (text, pytest.approx(score, abs=1e-4)), seed


def test_what_cannot_be_in_the_beam_is_not_tried_and_the_result_is_that_of_trying_it():
    """The floor that rises while a slot is read leaves out nothing that belongs to the beam."""
    scorer = Scorer(ngrams(), 0.7, 0.5)
    for seed in range(20):
        probs = distributions(seed, t=9)
        text, score = plain_beam(probs, scorer, 4)
        assert found(probs, scorer, pruning(4)) == (text, pytest.approx(score, abs=1e-6)), seed


def plain_beam(probs, scorer, beam_size):
    """Prefix beam search from its definition: text -> (ends with a blank, with its last token)."""
    beam = {(): (1.0, 0.0)}
    for blank, *slot in probs:
        new = {}
        for text, (with_blank, with_token) in beam.items():
            both = with_blank + with_token
            add(new, text, both * blank, 0.0)
            for token, prob in zip(TOKENS, slot, strict=True):
                if text and token == text[-1]:
                    add(new, text, 0.0, with_token * prob)
                add(new, (*text, token), 0.0, (with_blank if text and token == text[-1] else both) * prob)
        totals = {text: math.log(sum(p)) + open_score(text, scorer) for text, p in new.items() if sum(p)}
        beam = {text: new[text] for text in sorted(totals, key=totals.__getitem__)[-beam_size:]}
    best = max(beam, key=lambda text: math.log(sum(beam[text])) + ngram_score(text, scorer))
    return list(best), math.log(sum(beam[best])) + ngram_score(best, scorer)


def add(beam, text, with_blank, with_token):
    old = beam.get(text, (0.0, 0.0))
    beam[text] = (old[0] + with_blank, old[1] + with_token)


def open_score(text, scorer):
    """The scorer's sum without eos."""
    context = scorer.start()
    for token in text:
        context = scorer.extended(context, token)
    return ngram_score(text, scorer) - scorer.score(context, EOS)


def test_thresholds_leave_out_what_is_improbable():
    """7 is the best text, and neither it nor its beginning is the best behind the first slot."""
    probs, scorer = np.array([[0.2, 0.48, 0.31, 0.01], [0.1, 0.05, 0.8, 0.05]]), Scorer(None, 0.0, 0.0)
    assert found(probs, scorer, pruning(10))[0] == [7]
    assert found(probs, scorer, pruning(10, threshold=0.4))[0] == [6, 7]
    assert found(probs, scorer, pruning(10, min_share=0.7))[0] == [6, 7]
    assert found(np.array([[0.9, 0.08, 0.01, 0.01]]), Scorer(None, 0.0, 5.0), pruning(9, min_share=0.1))[0] == []


def test_long_sentences_do_not_underflow():
    probs = np.tile(np.array([1e-9, 5e-4, 1e-9, 1e-9]), (400, 1))
    text, score = found(probs, Scorer(None, 0.0, 0.0), pruning(3))
    assert text == [6] and score == pytest.approx(400 * math.log(5e-4), abs=0.01)


def test_equal_neighbours_need_a_blank_between_them():
    probs = np.array([[0.02, 0.96, 0.01, 0.01], [0.97, 0.01, 0.01, 0.01], [0.02, 0.96, 0.01, 0.01]])
    assert found(probs, Scorer(None, 0.0, 0.0), pruning(5))[0] == [6, 6]
    nothing = np.array([[0.97, 0.01, 0.01, 0.01]] * 2)
    assert found(nothing, Scorer(None, 0.0, 0.0), pruning(5))[0] == []


def test_scores_that_are_forgotten_are_computed_again(monkeypatch):
    kept, probs = Scorer(ngrams(), 0.7, 0.5), distributions(3, t=8)
    monkeypatch.setattr(ngram_scores, "MOST_KEPT", 0)
    forgetful = Scorer(ngrams(), 0.7, 0.5)
    assert [found(probs, forgetful, pruning(4)) for _ in range(2)] == [found(probs, kept, pruning(4))] * 2


def test_too_many_kept_scores_are_forgotten(monkeypatch):
    scorer = Scorer(ngrams(), 0.7, 0.5)
    scorer.score(scorer.start(), 6)
    before = scorer._kept
    scorer.start()
    assert scorer._kept == before
    monkeypatch.setattr(ngram_scores, "MOST_KEPT", 0)
    scorer.start()
    assert scorer._kept < before


def test_candidates_are_the_most_probable_ones_of_each_row():
    with np.errstate(divide="ignore"):
        log_probs = np.log([[0.1, 0.6, 0.3, 0.0], [0.25, 0.2, 0.15, 0.4]])
    assert [x.tolist() for x in most_probable(log_probs, 2, 0.0)] == [[0, 0, 1, 1], [1, 2, 3, 0]]
    assert [x.tolist() for x in most_probable(log_probs, 9, 0.0)] == [[0, 0, 0, 1, 1, 1, 1], [1, 2, 0, 3, 0, 1, 2]]
    assert [x.tolist() for x in most_probable(log_probs, 9, 0.45)] == [[0, 0, 1, 1, 1], [1, 2, 3, 0, 1]]
    assert [x.tolist() for x in most_probable(log_probs, 9, 0.45, np.log([0.7, 0.9]))] == [[0], [1]]


@pytest.mark.slow
def test_a_sentence_leaves_nothing_to_the_garbage_collector():
    probs, scorer = distributions(4, t=9), Scorer(ngrams(), 0.7, 0.5)
    found(probs, scorer, pruning(4))
    gc.collect()
    found(probs, scorer, pruning(4))
    assert not gc.collect()


def test_improbable_sentences_are_scaled_and_the_result_is_that_of_no_scaling():
    scorer = Scorer(ngrams(), 0.7, 0.5)
    for seed in range(5):
        probs = distributions(seed, t=9) * 1e-15
        text, score = plain_beam(probs, scorer, 4)
        assert found(probs, scorer, pruning(4)) == (text, pytest.approx(score, abs=1e-6)), seed
