"""Searches by CTranslate2 give the n-best lists of torch."""

from dataclasses import replace

import pytest
import torch

from retort import config
from retort.data.batches import Ragged
from retort.data.vocabulary import MASK, PAD
from retort.export.exact_search import ExactSearch, differing, unsupported
from retort.search.decoding import decode, decode_texts, translate_texts
from tests.unit.fakes_export import SHAPES, ending, saved, sources, text_vocabulary, wait_for_every_hypothesis
from tests.unit.fakes_models import bang_model, janus_model

AUTOREGRESSIVE = config.Autoregressive(name="autoregressive")
CPU = torch.device("cpu")
GREEDY = config.Greedy(kind="greedy")
SEARCHES = {
    "greedy": (GREEDY, 1),
    "beam 5": (config.Beam(kind="beam"), 1),
    "4 of 4": (config.Beam(kind="beam", beam_size=4), 4),
    "2 of 3, no length penalty": (config.Beam(kind="beam", beam_size=3, length_penalty=0), 2),
    "large length penalty, short outputs": (config.Beam(kind="beam", length_penalty=1.7, max_ratio=0.2), 5),
}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    return text_vocabulary(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    wait_for_every_hypothesis(monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("batch_tokens", [16, 4096])
@pytest.mark.parametrize("name", SEARCHES)
def test_lists_are_those_of_torch(tmp_path, vocabulary, name, batch_tokens):
    search, best = SEARCHES[name]
    model = ending(tmp_path, vocabulary)
    source = Ragged.from_lists(sources(vocabulary))
    exact = ExactSearch(model, vocabulary, search, batch_tokens, best, threads=1)
    expected, given = decode(model, source, search, batch_tokens), exact.decode(source)
    assert differing(expected, given, best) == []
    assert exact.left_to_torch < len(source), "CTranslate2 decoded none"
    for own, others in zip(given, expected, strict=True):
        scores = [[h.score for h in hypotheses[:best]] for hypotheses in (own, others)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)
    assert len({tuple(hypotheses[0].tokens) for hypotheses in given}) > 3


@pytest.mark.parametrize("shape", SHAPES)
def test_models_of_every_shape(tmp_path, vocabulary, shape):
    model = ending(tmp_path, vocabulary, **SHAPES[shape])
    search = config.Beam(kind="beam")
    source = Ragged.from_lists(sources(vocabulary, 20))
    exact = ExactSearch(model, vocabulary, search, 512, 1, threads=1)
    assert differing(decode(model, source, search, 512), exact.decode(source), 1) == []


def test_texts_that_are_empty_or_too_long(tmp_path, vocabulary):
    model = ending(tmp_path, vocabulary)
    search = config.Beam(kind="beam", beam_size=3)
    exact = ExactSearch(model, vocabulary, search, 512, 1, threads=1)
    texts = ["abcd efgh", "", "abcdefgh " * 60, "gh"]
    given = decode_texts(vocabulary, texts, model.config, lambda source, _: exact.decode(source))
    assert differing(translate_texts(model, vocabulary, texts, search, 512), given, 1) == []
    assert given[2][0].truncated and not given[1][0].tokens
    assert decode_texts(vocabulary, ["", ""], model.config, lambda source, _: exact.decode(source))[1][0].passes == 0


def test_special_tokens_are_left_to_torch(tmp_path, vocabulary):
    """A model of random weights emits them often."""
    model = saved(tmp_path, vocabulary, AUTOREGRESSIVE)
    model.embeddings.output.data[[PAD, MASK]] *= 3
    source = Ragged.from_lists(sources(vocabulary, 20))
    exact = ExactSearch(model, vocabulary, GREEDY, 512, 1, threads=1)
    assert differing(decode(model, source, GREEDY, 512), exact.decode(source), 1) == []
    assert exact.left_to_torch > 0


def test_what_differs(tmp_path, vocabulary):
    model = ending(tmp_path, vocabulary)
    lists = decode(model, Ragged.from_lists(sources(vocabulary, 3)), config.Beam(kind="beam", beam_size=2), 512)
    assert differing(lists, [h[:1] for h in lists], 1) == [] and differing(lists, [h[:1] for h in lists], 2) == [
        0,
        1,
        2,
    ]
    for change in ({"tokens": [7]}, {"truncated": True}, {"passes": 99}):
        assert differing(lists, [lists[0], [replace(lists[1][0], **change), lists[1][1]], lists[2]], 1) == [1]
    assert differing(lists, [[replace(h, score=0.0) for h in hypotheses] for hypotheses in lists], 2) == []


def test_what_ctranslate2_cannot_do_is_named(tmp_path, vocabulary):
    model = ending(tmp_path, vocabulary)
    assert unsupported(model, GREEDY, torch.float32, CPU) is None
    assert "bfloat16" in unsupported(model, GREEDY, torch.bfloat16, CPU)
    assert "cuda" in unsupported(model, GREEDY, torch.float32, torch.device("cuda"))
    assert "beams of two" in unsupported(model, config.Beam(kind="beam", beam_size=1), torch.float32, CPU)
    vanilla = saved(tmp_path / "vanilla", vocabulary, config.Vanilla(name="vanilla"))
    assert "parallel" in unsupported(vanilla, config.Argmax(kind="argmax"), torch.float32, CPU)
    assert "a bang model" in unsupported(bang_model(), GREEDY, torch.float32, CPU)
    assert "a janus model" in unsupported(janus_model(), GREEDY, torch.float32, CPU)
