"""Every kind of corpus: what its class declares is what its module does.

A new kind needs a case in ``CASES``; a test says so.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from retort.config import CORPORA, Cleaning, Corpus, CorpusSection
from retort.corpus.preparation import prepare_corpus
from retort.data.parquet import read_table
from retort.data.references import references_of
from retort.data.tables import CORPUS
from retort.evaluation.diagnostics import right_translations
from retort.evaluation.quality import Pairs


def generated(folder: Path) -> dict[str, object]:
    return {"kind": "generated", "train_pairs": 40, "valid_pairs": 5, "test_pairs": 6}


def text(folder: Path) -> dict[str, object]:
    pairs = {}
    for split in ("train", "valid", "news"):
        for side in ("source", "target"):
            lines = "".join(f"{split} {side} {i}\n" for i in range(8))
            (folder / f"{split}.{side}.gz").write_bytes(gzip.compress(lines.encode()))
        pairs[split] = {side: [{"location": str(folder / f"{split}.{side}.gz")}] for side in ("source", "target")}
    tests = {"news": pairs.pop("news")}
    return {"kind": "text", **pairs, "tests": tests, "train_pairs": 6, "mirror": str(folder)}


CASES: dict[str, Callable[[Path], dict[str, object]]] = {"generated": generated, "text": text}


def test_every_kind_has_a_case() -> None:
    assert set(CASES) == {kind.only_value("kind") for kind in CORPORA}, "a new kind of corpus needs a case in CASES"


@pytest.fixture(params=[kind.only_value("kind") for kind in CORPORA])
def settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CorpusSection:
    monkeypatch.delenv("RETORT_MIRROR", raising=False)
    return TypeAdapter(Corpus).validate_python(CASES[request.param](tmp_path))


def test_a_kind_makes_the_tables_it_declares(settings: CorpusSection, tmp_path: Path) -> None:
    facts = prepare_corpus(settings, Cleaning(), tmp_path / "corpus")
    splits = ["train", "valid", *settings.test_names]
    assert list(facts["splits"]) == splits and set(facts["cleaning"]) == set(splits)
    tables = ["train.parquet", "valid.parquet", *(f"test.{name}.parquet" for name in settings.test_names)]
    assert sorted(os.listdir(tmp_path / "corpus")) == sorted([*tables, "cleaning.parquet", "corpus.json"])
    assert json.loads((tmp_path / "corpus" / "corpus.json").read_text()) == facts
    for split, name in zip(splits, tables, strict=True):
        table = read_table(tmp_path / "corpus" / name, CORPUS)
        assert table.num_rows == facts["splits"][split]["pairs"] > 0
        assert all(table["source"].to_pylist()) and all(map(all, references_of(table)))
    assert prepare_corpus(settings, Cleaning(), tmp_path / "again") == facts


def test_a_kind_draws_training_pairs_as_it_declares(settings: CorpusSection, tmp_path: Path) -> None:
    counts = prepare_corpus(settings, Cleaning(), tmp_path / "corpus")["cleaning"]["train"]
    if settings.draw is None:
        assert counts["not_drawn"] == 0
    else:
        assert counts["kept"] == settings.draw.pairs and counts["not_drawn"] > 0


def test_local_keys_are_keys_without_which_the_section_is_complete(settings: CorpusSection) -> None:
    assert settings.local_keys <= set(type(settings).model_fields)
    shared = settings.model_dump(exclude=set(settings.local_keys))
    assert TypeAdapter(Corpus).validate_python(shared).test_names == settings.test_names


def test_the_texts_of_a_kind_are_there(settings: CorpusSection) -> None:
    assert all(Path(source.location).is_file() for source in settings.texts)


def test_a_kind_that_knows_right_translations_accepts_its_references(settings: CorpusSection, tmp_path: Path) -> None:
    if not settings.knows_right_translations:
        return
    prepare_corpus(settings, Cleaning(), tmp_path / "corpus")
    table = read_table(tmp_path / "corpus" / f"test.{settings.test_names[0]}.parquet", CORPUS)
    outputs = [references[0] for references in references_of(table)]
    sources = table["source"].to_pylist()
    pairs = Pairs("test", np.arange(len(outputs)), sources, references_of(table), outputs, table)
    assert right_translations(pairs, settings).value == 100
    swapped = Pairs("test", np.arange(len(outputs)), sources[::-1], references_of(table), outputs, table)
    assert right_translations(swapped, settings).value < 100
