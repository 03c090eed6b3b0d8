import random
import sys

import numpy as np
import pytest
import torch

from retort import config
from retort.cli import main
from retort.data.batches import Ragged
from retort.data.vocabulary import BLANK, BOS, EOS, MASK, PAD
from retort.errors import RetortError
from retort.export.ctranslate2 import export_ctranslate2
from retort.losses.teacher_forcing import shifted_right
from retort.models.build import build_model
from retort.models.checkpoint import save_checkpoint
from retort.search.base import run_search
from tests.unit.fakes_training import small_vocabulary

SHAPE = {"d_model": 16, "heads": 2, "ffn": 24, "encoder_layers": 2, "decoder_layers": 1, "max_length": 32}
SHAPES = {
    "default": {},
    "post-norm, gelu": {"norm": "post", "activation": "gelu", "decoder_layers": 2},
    "learned positions, untied": {"positions": "learned", "tied": "none"},
}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    rng = random.Random(1)
    lines = [" ".join("".join(rng.choices("abcdefgh", k=4)) for _ in range(5)) for _ in range(100)]
    return small_vocabulary(tmp_path_factory.mktemp("vocabulary"), lines)


def saved(directory, vocabulary, objective, **changes):
    torch.manual_seed(2)
    shape = config.Model(**(SHAPE | changes))
    model = build_model(objective, shape, vocabulary).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            # biases and norms of a new model are all alike
            parameter.data += 0.3 * torch.randn_like(parameter)
    description = {"objective": objective.model_dump(), "model": shape.model_dump()}
    save_checkpoint(directory, dict(model.named_parameters()), description, vocabulary)
    return model


AUTOREGRESSIVE = config.Autoregressive(name="autoregressive")


@pytest.mark.parametrize("name", SHAPES)
def test_ctranslate2_gives_the_same_probabilities(tmp_path, vocabulary, name):
    ctranslate2 = pytest.importorskip("ctranslate2")
    model = saved(tmp_path / "checkpoint", vocabulary, AUTOREGRESSIVE, **SHAPES[name])
    export_ctranslate2(tmp_path / "checkpoint", tmp_path / "exported")
    pieces = vocabulary_pieces(tmp_path / "exported" / "target.model")
    rng = random.Random(3)
    sources, targets = (
        [[rng.randrange(6, len(pieces)) for _ in range(n)] for n in lengths]
        for lengths in ((3, 9, 1, 6, 30), (5, 4, 8, 1, 30))
    )
    translator = ctranslate2.Translator(str(tmp_path / "exported"), compute_type="float32", intra_threads=1)
    as_pieces = [[[pieces[i] for i in tokens] for tokens in side] for side in (sources, targets)]
    found = translator.score_batch(*as_pieces)
    source_bs, target_bt = (Ragged.from_lists(side).padded(np.arange(len(side))) for side in (sources, targets))
    with torch.no_grad():
        log_probs_btv = model.logits(model(source_bs, shifted_right(target_bt))).log_softmax(-1)
    for i, target in enumerate(targets):
        expected = [float(log_probs_btv[i, t, token]) for t, token in enumerate([*target, EOS])]
        assert found[i].log_probs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", SHAPES)
def test_ctranslate2_finds_what_greedy_search_finds(tmp_path, vocabulary, name):
    ctranslate2 = pytest.importorskip("ctranslate2")
    model = saved(tmp_path / "checkpoint", vocabulary, AUTOREGRESSIVE, **SHAPES[name])
    export_ctranslate2(tmp_path / "checkpoint", tmp_path / "exported")
    pieces = vocabulary_pieces(tmp_path / "exported" / "target.model")
    translator = ctranslate2.Translator(str(tmp_path / "exported"), compute_type="float32", intra_threads=1)
    source = [7, 20, 9, 31]
    expected = run_search(model, Ragged.from_lists([source]).padded([0]), config.Greedy(kind="greedy"))[0][0].tokens
    found = translator.translate_batch(
        [[pieces[i] for i in source]],
        beam_size=1,
        max_decoding_length=len(expected),
        suppress_sequences=[[pieces[i]] for i in (PAD, BOS, MASK, BLANK)],
    )
    assert len(expected) > 0
    assert found[0].hypotheses[0] == [pieces[token] for token in expected]


def vocabulary_pieces(path):
    sentencepiece = pytest.importorskip("sentencepiece")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [processor.id_to_piece(i) for i in range(processor.get_piece_size())]


def test_other_families_and_full_directories_are_refused(tmp_path, vocabulary):
    pytest.importorskip("ctranslate2")
    for objective in (config.Ctc(name="ctc"), config.Janus(name="janus"), config.Bang(name="bang", nar_ratio=0)):
        saved(tmp_path / objective.name, vocabulary, objective)
        with pytest.raises(RetortError, match=f"trained as {objective.name}; CTranslate2 decodes left to right only"):
            export_ctranslate2(tmp_path / objective.name, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    saved(tmp_path / "teacher", vocabulary, AUTOREGRESSIVE)
    with pytest.raises(RetortError, match="exists already and is not an empty directory"):
        export_ctranslate2(tmp_path / "teacher", tmp_path / "ctc")


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
