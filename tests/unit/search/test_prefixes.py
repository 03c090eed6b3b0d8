"""Completing given prefixes: by greedy and by beam search, against the naive way."""

import math
from types import SimpleNamespace

import pytest
import torch

from retort import config
from retort.data.vocabulary import BOS, EOS, PAD, UNK
from retort.errors import RetortError
from retort.search.base import Hypothesis, run_search
from retort.search.decoding import padded_prefixes, translate_texts
from tests.unit.fakes_models import (
    FakeAutoregressive,
    autoregressive,
    janus_model,
    padded,
    parallel,
    prefer_unknown,
    recurrent,
    sentences,
)
from tests.unit.search.test_searches import ONE, log_prob, table

GREEDY = config.Greedy(kind="greedy")
SOURCES = sentences([3, 12, 1, 7, 9, 2], seed=3)
PREFIXES = [*sentences([2, 5, 0, 30, 1], seed=4), [6]]


def beam(size, penalty=0.0):
    return config.Beam(kind="beam", beam_size=size, length_penalty=penalty)


def complete(model, sources, prefixes, options):
    return run_search(model, padded(sources), options, prefix_bt=padded_prefixes(prefixes))


def naive_greedy(model, source, prefix, limit):
    """Each token by a whole pass over the sentence so far; and whether the limit cuts it."""
    tokens, source_bs = list(prefix), padded([source])
    while len(tokens) <= limit:
        with torch.no_grad():
            logits = model.logits(model(source_bs, torch.tensor([[BOS, *tokens]]))[0, -1])
        logits[[PAD, BOS, 3, 4, 5]] = -math.inf
        token = int(logits.argmax())
        if token == EOS:
            return tokens, False
        tokens.append(token)
    return tokens[:limit], True


@pytest.mark.parametrize(("build", "seed"), [(autoregressive, 0), (recurrent, 1)])
def test_the_rest_is_what_the_model_says_after_the_prefix(build, seed):
    model = build(seed)
    # some outputs end, others are cut
    model.embeddings.output.data[EOS] *= 2.5
    found = complete(model, SOURCES, PREFIXES, GREEDY)
    for source, prefix, (best,) in zip(SOURCES, PREFIXES, found, strict=True):
        limit = max(min(2 * len(source) + 10, 39), len(prefix))
        assert (best.tokens, best.truncated) == naive_greedy(model, source, prefix, limit)
        assert best.tokens[: len(prefix)] == prefix
    assert len({best.truncated for (best,) in found}) == 2


@pytest.mark.parametrize("options", [GREEDY, beam(3), beam(3, 1.0)], ids=["greedy", "beam", "penalty"])
@pytest.mark.parametrize("build", [autoregressive, recurrent, janus_model])
def test_prefixes_of_many_lengths_in_a_batch_are_completed_as_alone(build, options):
    model = build(1)
    model.embeddings.output.data[EOS] *= 1.5
    together = complete(model, SOURCES, PREFIXES, options)
    for source, prefix, found in zip(SOURCES, PREFIXES, together, strict=True):
        (alone,) = complete(model, [source], [prefix], options)
        assert [h.tokens for h in found] == [h.tokens for h in alone]
        assert [h.score for h in found] == pytest.approx([h.score for h in alone], rel=1e-4)
        assert all(h.tokens[: len(prefix)] == prefix for h in found)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_beam_search_after_a_prefix_is_beam_search_of_a_model_that_has_said_it(seed, size):
    model, prefix = table(seed, limit=5), [7, 6]
    after = FakeAutoregressive(lambda tokens: model.probabilities((*prefix, *tokens)), max_length=4)
    (found,), (expected,) = complete(model, [[7]], [prefix], beam(size)), run_search(after, ONE, beam(size))
    assert [h.tokens for h in found] == [prefix + h.tokens for h in expected]
    said = log_prob(model, prefix)
    assert [h.score for h in found] == pytest.approx([said + h.score for h in expected], rel=1e-5)
    assert [h.passes for h in found] == [h.passes + 2 for h in expected]


@pytest.mark.parametrize("options", [GREEDY, beam(3)], ids=["greedy", "beam"])
def test_empty_prefixes_change_nothing(options):
    model = autoregressive(2)
    assert complete(model, SOURCES, [[]] * 6, options) == run_search(model, padded(SOURCES), options)


def test_an_output_completed_from_its_own_beginning_is_itself():
    model = autoregressive(2)
    alone = run_search(model, padded(SOURCES), GREEDY)
    halves = [best.tokens[: len(best.tokens) // 2] for (best,) in alone]
    assert complete(model, SOURCES, halves, GREEDY) == alone


@pytest.mark.parametrize("options", [GREEDY, beam(3)], ids=["greedy", "beam"])
def test_a_prefix_may_hold_unknown_words_and_the_rest_does_not(options):
    model, prefix = autoregressive(2), [6, UNK, 7]
    prefer_unknown(model)
    (found,) = complete(model, [[7, 8]], [prefix], options)
    assert found
    for hypothesis in found:
        assert hypothesis.tokens[:3] == prefix
        assert UNK not in hypothesis.tokens[3:] and math.isfinite(hypothesis.score)


def test_prefixes_belong_to_their_texts_and_are_cut_where_the_model_ends():
    model = autoregressive(2)
    vocabulary = SimpleNamespace(encode_source=lambda texts: [[ord(letter) - 90 for letter in text] for text in texts])
    texts, prefixes = ["", "ab", "ba"], [[9], [6], sentences([45], seed=4)[0]]
    empty, *found = translate_texts(model, vocabulary, texts, GREEDY, 4096, prefixes=prefixes)
    assert empty == [Hypothesis([], 0.0, truncated=False, passes=0)]
    assert found == complete(model, vocabulary.encode_source(texts[1:]), [[6], prefixes[2][:39]], GREEDY)
    assert [best.tokens[:1] for (best,) in found] == [[6], prefixes[2][:1]]


def test_a_search_that_cannot_continue_prefixes_says_so():
    with pytest.raises(RetortError, match="search argmax cannot continue prefixes; use greedy or beam"):
        complete(parallel(), [[7]], [[6]], config.Argmax(kind="argmax"))
