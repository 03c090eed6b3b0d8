"""CTranslate2 as a teacher: our own exported model gives the text of our own beam search."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from retort import config
from retort.config.external import CTranslate2Teacher
from retort.data.vocabulary import BLANK, BOS, EOS, MASK, PAD, Vocabulary
from retort.errors import RetortError
from retort.export.exporting import export_system
from retort.models.checkpoint import load_checkpoint, read_description, save_checkpoint
from retort.search.decoding import translate_texts
from retort.teachers.base import Answer, Output, Question, open_external
from tests.unit.fakes_export import saved, text_vocabulary

MAX_LENGTH = 200
"""Longer than any output that is compared."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Vocabulary]:
    """A checkpoint, its export and its vocabulary."""
    directory = tmp_path_factory.mktemp("teacher")
    vocabulary = text_vocabulary(directory / "vocabulary")
    objective = config.Autoregressive(name="autoregressive")
    model = saved(directory / "checkpoint", vocabulary, objective, max_length=MAX_LENGTH)
    # most sentences of this model end, as those of a trained one do
    model.embeddings.output.data[EOS] *= 3
    facts = read_description(directory / "checkpoint")
    description = {key: facts[key] for key in ("objective", "model")}
    save_checkpoint(directory / "checkpoint", dict(model.named_parameters()), description, vocabulary)
    export_system(directory / "checkpoint", directory / "exported", "ctranslate2", "float32")
    return directory / "checkpoint", directory / "exported", vocabulary


def section(exported: Path, vocabulary: Vocabulary, **keys: Any) -> CTranslate2Teacher:
    suppress = [vocabulary.target_pieces[i] for i in (PAD, BOS, MASK, BLANK)]
    whole = {
        "beam_size": 4,
        "length_penalty": 0.0,
        "patience": 2.0,
        "suppress": suppress,
        "max_length": 60,
        "batch_tokens": 64,
        **keys,
    }
    return CTranslate2Teacher(kind="ctranslate2", path=str(exported), **whole)


def answers(teacher: CTranslate2Teacher, texts: list[str]) -> list[Answer]:
    found = open_external(teacher, "train").answer([Question(i, text) for i, text in enumerate(texts)])
    return sorted(found, key=lambda answer: answer.question.id)


def sources(count: int) -> list[str]:
    rng = random.Random(3)
    return [" ".join("".join(rng.choices("abcdefgh", k=4)) for _ in range(rng.randint(1, 9))) for _ in range(count)]


def test_our_own_exported_teacher_gives_the_text_of_our_beam_search(exported: Any) -> None:
    checkpoint, directory, vocabulary = exported
    texts = sources(40)
    model = load_checkpoint(checkpoint, torch.device("cpu")).model
    search = config.Beam(kind="beam", beam_size=4, max_ratio=3, length_penalty=0)
    ours = [hypotheses[0] for hypotheses in translate_texts(model, vocabulary, texts, search, 4096)]
    theirs = [answer.outputs[0] for answer in answers(section(directory, vocabulary), texts)]
    whole = [(o, t) for o, t in zip(ours, theirs, strict=True) if t.ended == "stop" and not o.truncated]
    assert len(whole) > 25
    assert [t.text for _, t in whole] == vocabulary.decode_target([o.tokens for o, _ in whole])
    assert len({t.text for _, t in whole}) > 12


def test_several_outputs_are_the_beams(exported: Any) -> None:
    _, directory, vocabulary = exported
    texts = sources(9)
    several = answers(section(directory, vocabulary, outputs=3), texts)
    one = answers(section(directory, vocabulary), texts)
    assert [a.outputs[0].text for a in several] == [a.outputs[0].text for a in one]
    assert all(len(a.outputs) == 3 and a.outputs[0].score >= a.outputs[2].score for a in several)


def test_an_output_at_the_limit_is_truncated(exported: Any) -> None:
    _, directory, vocabulary = exported
    texts = sources(30)
    ends = {a.outputs[0].ended for a in answers(section(directory, vocabulary, max_length=2), texts)}
    assert "length" in ends
    piece = vocabulary.target_pieces[20]
    prefixed, plain = (answers(section(directory, vocabulary, target_prefix=prefix), texts) for prefix in ([piece], []))
    texts_of = [[answer.outputs[0].text for answer in side] for side in (prefixed, plain)]
    assert texts_of[0] != texts_of[1]


def test_the_prefix_is_no_part_of_the_limit(exported: Any) -> None:
    _, directory, vocabulary = exported
    piece = vocabulary.target_pieces[20]
    endless = [*section(directory, vocabulary).suppress, vocabulary.target_pieces[EOS]]
    for keys in ({}, {"suppress": endless}):
        whole = section(directory, vocabulary, max_length=3, target_prefix=[piece] * 4, **keys)
        outputs = [answer.outputs[0] for answer in answers(whole, sources(20))]
        assert "length" in {output.ended for output in outputs}
        assert ("stop" in {output.ended for output in outputs}) == (not keys)


def test_what_is_not_there_is_named(exported: Any, tmp_path: Path) -> None:
    _, directory, vocabulary = exported
    with pytest.raises(RetortError, match=r"no sentencepiece model \(looked for source.spm"):
        answers(section(tmp_path, vocabulary), ["a"])
    (tmp_path / "source.spm").write_bytes(b"nothing")
    with pytest.raises(RetortError, match="source.spm: not a sentencepiece model"):
        answers(section(tmp_path, vocabulary), ["a"])
    given = str(directory / "source.model")
    with pytest.raises(RetortError, match="CTranslate2 cannot load it"):
        answers(section(tmp_path, vocabulary, source_vocabulary=given, target_vocabulary=given), ["a"])


def test_a_source_longer_than_the_model_has_an_empty_output(exported: Any, caplog: pytest.LogCaptureFixture) -> None:
    _, directory, vocabulary = exported
    texts = sources(8)
    texts.insert(3, " ".join(texts) * 4)
    found = answers(section(directory, vocabulary, outputs=2, batch_tokens=10_000), texts)
    assert found[3].outputs == [Output("", "length")] * 2
    assert all(
        answer.outputs[0].ended == "stop" or answer.outputs[0].text for answer in found if answer is not found[3]
    )
    assert f"source 3, {texts[3][:80]!r}: its " in caplog.text and caplog.text.count("do not fit the model") == 1


@pytest.mark.parametrize(
    ("key", "file"),
    [("source_prefix", ""), ("source_suffix", "source_"), ("target_prefix", "target_"), ("suppress", "")],
)
@pytest.mark.parametrize("suffix", ["json", "txt"])
def test_a_token_that_is_in_no_vocabulary_is_named(
    exported: Any, tmp_path: Path, key: str, file: str, suffix: str
) -> None:
    _, directory, vocabulary = exported
    tokens = json.loads((directory / "shared_vocabulary.json").read_text())
    for path in directory.iterdir():
        if path.name != "shared_vocabulary.json":
            (tmp_path / path.name).symlink_to(path)
    tokens[20] = "deu_Latn"
    names = ("source_", "target_") if file else ("shared_",)
    for name in names:
        text = json.dumps(tokens) if suffix == "json" else "".join(f"{token}\n" for token in tokens)
        (tmp_path / f"{name}vocabulary.{suffix}").write_text(text)
    open_external(section(tmp_path, vocabulary, **{key: ["deu_Latn"]}), "train")
    with pytest.raises(RetortError, match=rf"{key}: .* has no token 'deu_latn'; .*did you mean 'deu_Latn'\?"):
        open_external(section(tmp_path, vocabulary, **{key: ["deu_Latn", "deu_latn"]}), "train")
    with pytest.raises(RetortError, match=rf"{key}: .* has no token '>>+'; write it as this vocabulary does$"):
        open_external(section(tmp_path, vocabulary, **{key: [">" * 30]}), "train")
