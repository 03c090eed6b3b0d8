"""Autoregressive models in CTranslate2."""

import io
import random
import sys

import ctranslate2
import numpy as np
import pytest
import sentencepiece
import torch

from retort import config
from retort.cli import main
from retort.data.batches import Ragged
from retort.data.vocabulary import BLANK_PIECE, EOS, MASK_PIECE, Vocabulary
from retort.errors import RetortError
from retort.export import ctranslate2 as exporting
from retort.export.exporting import export_system
from retort.export.parity import Lines
from retort.losses.teacher_forcing import shifted_right
from retort.runtime import open_system
from retort.runtime.ctranslate2_engine import CTranslate2System
from retort.search.base import run_search
from tests.unit.fakes_export import SHAPES, ending, saved, sources, text_vocabulary

AUTOREGRESSIVE = config.Autoregressive(name="autoregressive")
GREEDY = {"kind": "greedy"}
LONG = config.Beam(kind="beam", beam_size=3, max_ratio=50.0).model_dump()
"""Outputs may be as long as the model allows."""


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    return text_vocabulary(tmp_path_factory.mktemp("vocabulary"))


@pytest.mark.parametrize("name", SHAPES)
def test_ctranslate2_gives_the_same_probabilities(tmp_path, vocabulary, name):
    model = saved(tmp_path / "checkpoint", vocabulary, AUTOREGRESSIVE, **SHAPES[name])
    export_system(tmp_path / "checkpoint", tmp_path / "exported")
    pieces = vocabulary.source_pieces
    rng = random.Random(3)
    sources, targets = (
        [[rng.randrange(6, len(pieces)) for _ in range(n)] for n in lengths]
        for lengths in ((3, 9, 1, 6, 30), (5, 4, 8, 1, 30))
    )
    translator = ctranslate2.Translator(str(tmp_path / "exported"), compute_type="float32", intra_threads=1)
    as_pieces = [[[pieces[i] for i in tokens] for tokens in side] for side in (sources, targets)]
    scored = translator.score_batch(*as_pieces)
    source_bs, target_bt = (Ragged.from_lists(side).padded(np.arange(len(side))) for side in (sources, targets))
    with torch.no_grad():
        log_probs_btv = model.logits(model(source_bs, shifted_right(target_bt))).log_softmax(-1)
    for i, target in enumerate(targets):
        expected = [float(log_probs_btv[i, t, token]) for t, token in enumerate([*target, EOS])]
        assert scored[i].log_probs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", SHAPES)
def test_a_bundle_decodes_greedily_as_torch_does(tmp_path, vocabulary, name):
    model = saved(tmp_path / "checkpoint", vocabulary, AUTOREGRESSIVE, **SHAPES[name])
    export_system(tmp_path / "checkpoint", tmp_path / "exported", search=GREEDY)
    system = open_system(tmp_path / "exported")
    sources = [[7, 20, 9, 31], [8], [30, 12, 12, 9, 25, 7, 7, 19]]
    padded = Ragged.from_lists(sources).padded(np.arange(3))
    best = [hypotheses[0] for hypotheses in run_search(model, padded, config.Greedy(kind="greedy"))]
    assert [tuple(d) for d in system.decode(sources)] == [(h.tokens, h.truncated, h.passes) for h in best]
    assert len({tuple(h.tokens) for h in best}) == 3


def test_special_pieces_may_have_other_names(tmp_path):
    """CTranslate2 knows eos and others by theirs."""
    model, named = io.BytesIO(), {f"{name}_piece": f"[{name}]" for name in ("pad", "bos", "eos", "unk")}
    ids = {f"{name}_id": i for i, name in enumerate(("pad", "bos", "eos", "unk"))}
    words = ["".join(random.Random(i).choices("abcdefgh", k=4)) for i in range(300)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words), model_writer=model, vocab_size=40, minloglevel=3,
        control_symbols=[MASK_PIECE, BLANK_PIECE], **ids, **named,
    )  # fmt: skip
    vocabulary = Vocabulary(model.getvalue(), model.getvalue())
    ending(tmp_path / "checkpoint", vocabulary)
    export_system(tmp_path / "checkpoint", tmp_path / "exported", search=GREEDY)
    search = config.Greedy(kind="greedy").model_dump()
    by_torch, found = (
        open_system(tmp_path / name, search).translate(words[:20]) for name in ("checkpoint", "exported")
    )
    assert found == by_torch
    assert not all(output.truncated for output in found)


@pytest.mark.parametrize("search", [config.Greedy(kind="greedy"), config.Beam(kind="beam", beam_size=3)], ids=str)
def test_scores_are_those_of_torch(tmp_path, vocabulary, search):
    model = saved(tmp_path / "checkpoint", vocabulary, AUTOREGRESSIVE)
    export_system(tmp_path / "checkpoint", tmp_path / "exported", search=search.model_dump())
    sources = [[7, 20, 9, 31], [8], [30, 12, 12, 9, 25, 7, 7, 19]]
    engines = [open_system(tmp_path / name, search.model_dump()) for name in ("checkpoint", "exported")]
    by_torch, found = (system.decode_scored(sources, system.most_outputs) for system in engines)
    assert [ranked[0].decoded for ranked in found] == engines[1].decode(sources)
    padded = Ragged.from_lists(sources).padded(np.arange(3))
    assert [[s.score for s in ranked] for ranked in by_torch] == [
        [h.score for h in best] for best in run_search(model, padded, search)
    ]
    assert max(len(ranked) for ranked in found) == engines[0].most_outputs
    for ours, theirs in zip(found, by_torch, strict=True):
        expected = {tuple(s.decoded.tokens): s for s in theirs}
        assert tuple(ours[0].decoded.tokens) in expected
        for scored in ours:
            if (other := expected.get(tuple(scored.decoded.tokens))) is not None:
                assert scored.score == pytest.approx(other.score, abs=1e-4)
                assert scored.log_probs == pytest.approx(other.log_probs, abs=1e-4)
                assert scored.decoded == other.decoded


@pytest.fixture(scope="module")
def engines(tmp_path_factory, vocabulary):
    """A model in torch and in CTranslate2."""
    directory = tmp_path_factory.mktemp("systems")
    ending(directory / "checkpoint", vocabulary)
    export_system(directory / "checkpoint", directory / "exported")
    return directory / "checkpoint", directory / "exported"


@pytest.mark.parametrize("max_ratio", [2.0, 0.2])
def test_beam_outputs_are_those_of_torch_alone_and_in_company(engines, vocabulary, max_ratio):
    """CTranslate2's own ranking gave other ones for most of these sources, and for one other ones in a batch."""
    beam = config.Beam(kind="beam", beam_size=4, max_ratio=max_ratio).model_dump()
    given = sources(vocabulary)
    by_torch, found = (open_system(directory, beam) for directory in engines)
    outputs = found.decode(given)
    assert outputs == by_torch.decode(given)
    assert outputs == [found.decode([source])[0] for source in given]
    assert {output.truncated for output in outputs} == {True, False}


def test_several_outputs_are_in_the_order_of_their_scores(engines, vocabulary):
    search = config.Beam(kind="beam", beam_size=4).model_dump()
    system = open_system(engines[1], search)
    given = sources(vocabulary)
    lists = system.decode_scored(given, 4)
    keys = [[(s.decoded.truncated, -s.score) for s in ranked] for ranked in lists]
    assert keys == [sorted(own) for own in keys] and max(map(len, keys)) == 4
    assert [ranked[0].decoded for ranked in lists] == system.decode(given)


@pytest.mark.parametrize("decode", [CTranslate2System.decode, lambda system, given: system.decode_scored(given, 2)])
def test_sources_of_other_lengths_are_decoded_apart(engines, vocabulary, monkeypatch, decode):
    asked, found = [], CTranslate2System._found

    def recorded(self, given, limit):
        asked.append({len(tokens) for tokens in given})
        return found(self, given, limit)

    monkeypatch.setattr(CTranslate2System, "_found", recorded)
    tokens = sources(vocabulary)[0]
    given = [(tokens * 12)[:length] for length in (3, 12, 3, 11)]
    assert len(decode(open_system(engines[1], LONG), given)) == 4
    assert asked[:1] == [{12, 11}] and {3} in asked and not any({3, 12} <= lengths for lengths in asked)


@pytest.mark.parametrize("search", [config.Greedy(kind="greedy").model_dump(), LONG])
def test_threads_decode_groups_at_the_same_time(engines, vocabulary, search):
    alone, together = (open_system(engines[1], search, threads=threads) for threads in (1, 3))
    assert (alone._translator.num_translators, together._translator.num_translators) == (1, 3)
    tokens = sources(vocabulary)[0]
    given = [(tokens * 40)[:length] for length in (3, 12, 3, 30, 11, 6)]
    assert together.decode(given) == alone.decode(given)


def test_outputs_that_hit_the_limit_of_the_model_have_the_scores_of_torch(tmp_path, vocabulary):
    saved(tmp_path / "checkpoint", vocabulary, AUTOREGRESSIVE, max_length=12)
    export_system(tmp_path / "checkpoint", tmp_path / "exported", search=LONG)
    sources = [[7, 20, 9, 31], [8], [30, 12, 12, 9, 25, 7, 7, 19]]
    engines = [open_system(tmp_path / name, LONG) for name in ("checkpoint", "exported")]
    by_torch, found = (system.decode_scored(sources, 3) for system in engines)
    for ours, theirs in zip(found, by_torch, strict=True):
        expected = {tuple(s.decoded.tokens): s for s in theirs}
        cut = [s for s in ours if s.decoded.truncated and len(s.decoded.tokens) == 11]
        assert cut
        for scored in cut:
            other = expected[tuple(scored.decoded.tokens)]
            assert scored.decoded == other.decoded and scored.score == pytest.approx(other.score, abs=1e-4)
            assert scored.log_probs == pytest.approx(other.log_probs, abs=1e-4)


def test_scores_that_a_bundle_of_fewer_positions_lacks_are_refused(tmp_path, vocabulary, monkeypatch):
    def convert(model, specs, of_now=exporting._convert):
        spec = of_now(model, specs)
        for side in (spec.encoder, spec.decoder):
            side.position_encodings.encodings = side.position_encodings.encodings[:-1]
        return spec

    monkeypatch.setattr(exporting, "_convert", convert)
    saved(tmp_path / "checkpoint", vocabulary, AUTOREGRESSIVE, max_length=12)
    export_system(tmp_path / "checkpoint", tmp_path / "exported", search=LONG)
    system = open_system(tmp_path / "exported")
    assert system.decode([[7, 20, 9, 31]])[0].truncated
    with pytest.raises(
        RetortError, match="exported: an earlier export, .* limit of 12 tokens; export the system again"
    ):
        system.decode_scored([[7, 20, 9, 31]], 1)


def test_int8_is_smaller_and_both_searches_run(tmp_path, vocabulary):
    saved(tmp_path / "checkpoint", vocabulary, AUTOREGRESSIVE, d_model=64, ffn=256)
    lines = Lines("lines", ["abcd efgh", "", "gh"], None)
    sizes = {}
    for precision in ("float32", "int8"):
        facts = export_system(tmp_path / "checkpoint", tmp_path / precision, precision=precision, lines=lines)
        assert facts["searches"] == ["beam", "greedy"] and facts["parity"]["lines"] == 3
        sizes[precision] = (tmp_path / precision / "model.bin").stat().st_size
    assert sizes["int8"] < 0.4 * sizes["float32"]
    beam = config.Beam(kind="beam", beam_size=3, length_penalty=0.5, max_ratio=0.1)
    for search in (config.Greedy(kind="greedy").model_dump(), beam.model_dump()):
        outputs = open_system(tmp_path / "int8", search).translate(["abcd efgh", "", "gh"])
        assert [bool(output.text) for output in outputs] == [True, False, True]
        assert all(len(output.tokens) <= 2 * 10 + 10 for output in outputs)


def test_a_missing_package_is_named(tmp_path, vocabulary, monkeypatch, capsys):
    saved(tmp_path / "teacher", vocabulary, AUTOREGRESSIVE)
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    monkeypatch.setitem(sys.modules, "ctranslate2.specs", None)
    monkeypatch.setattr(
        sys, "argv", ["retort", "export", "--model", str(tmp_path / "teacher"), "--output", str(tmp_path / "out")]
    )
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == 2
    assert "pip install ctranslate2" in capsys.readouterr().err


def test_outputs_without_an_end_come_after_those_with_one() -> None:
    system = CTranslate2System.__new__(CTranslate2System)
    system._target_pieces, system._numbers, system._length_penalty = ["", "", "</s>"], {"a": 6, "b": 7}, 0.0
    assert system._best([["a"], ["b", "</s>"]], [-1.0, -8.0], 2) == [[7], [6]]
