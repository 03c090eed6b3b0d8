"""Text without references: read, cleaned, carved, and filled with an external teacher's outputs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from retort import config
from retort.config.external import CommandTeacher
from retort.corpus.preparation import prepare_corpus, text_of
from retort.data.batches import EncodedCorpus
from retort.data.parquet import read_table, write_table
from retort.data.references import references_of
from retort.data.tables import CLEANING, CORPUS, ENCODED, TRANSLATIONS
from retort.data.vocabulary_training import train_vocabulary
from retort.errors import RetortError
from retort.teachers.asking import translations_part
from retort.teachers.base import Output
from workflow_scripts import fill_references

CLEAN = config.Cleaning(max_words=4)


def prepared(tmp_path: Path, **keys: Any) -> Path:
    """Corpus tables of a text corpus; values of keys are lists of lines, or pairs of such lists."""
    pairs: dict[str, Any] = {}
    for name, sides in keys.items():
        sides = sides if isinstance(sides, tuple) else (sides,)
        for side, lines in zip(("source", "target"), sides, strict=False):
            (tmp_path / f"{name}.{side}").write_text("".join(f"{line}\n" for line in lines))
            pairs.setdefault(name, {})[side] = [{"location": str(tmp_path / f"{name}.{side}")}]
    monolingual = pairs.pop("monolingual", {"source": []})["source"]
    corpus = {"kind": "text", "train": pairs.pop("train"), "monolingual": monolingual}
    if pairs:
        corpus |= {"valid": pairs["valid"], "tests": {"test": pairs["test"]}}
    else:
        corpus["carve"] = {"valid_pairs": 2, "test_pairs": 2}
    prepare_corpus(config.TextCorpus.model_validate(corpus), CLEAN, tmp_path / "sources")
    return tmp_path / "sources"


HELD_OUT = {"valid": ["v 1", "v 2"], "test": ["t 1", "t 2", "t 3"]}


def test_source_only_text_is_cleaned_by_its_source(tmp_path: Path) -> None:
    lines = ["a b", "", "a b", "one two three four five", "v 1", "c"]
    directory = prepared(tmp_path, train=lines, **HELD_OUT)
    train = read_table(directory / "train.parquet", CORPUS)
    assert (train["id"].to_pylist(), train["source"].to_pylist()) == ([0, 5], ["a b", "c"])
    assert references_of(train) == [[], []]
    rows = read_table(directory / "cleaning.parquet", CLEANING).to_pylist()
    counts = {row["reason"]: row["pairs"] for row in rows if row["split"] == "train"}
    assert (counts["empty"], counts["duplicate"], counts["too_long"], counts["leak"]) == (1, 1, 1, 1)


def test_monolingual_text_is_beside_pairs_and_no_pair(tmp_path: Path) -> None:
    paired = {name: (lines, [line.upper() for line in lines]) for name, lines in HELD_OUT.items()}
    directory = prepared(tmp_path, train=(["a", "b", "c"], ["A", "", "C"]), monolingual=["d", "a", "d"], **paired)
    train = read_table(directory / "train.parquet", CORPUS)
    rows = list(zip(train["id"].to_pylist(), train["source"].to_pylist(), references_of(train), strict=True))
    assert rows == [(0, "a", ["A"]), (2, "c", ["C"]), (3, "d", [])]
    facts = json.loads((directory / "corpus.json").read_text())
    assert [text["side"] for text in facts["texts"]][-1] == "monolingual"


def test_source_only_text_is_carved(tmp_path: Path) -> None:
    directory = prepared(tmp_path, train=[f"line {i}" for i in range(9)])
    sizes = [read_table(directory / f"{name}.parquet", CORPUS).num_rows for name in ("train", "valid", "test.test")]
    assert sizes == [5, 2, 2]


@pytest.mark.parametrize("paired", [True, False])
def test_monolingual_text_shares_nothing_with_what_is_carved(tmp_path: Path, paired: bool) -> None:
    lines = [f"line {i}" for i in range(9)]
    train = (lines, [line.upper() for line in lines]) if paired else lines
    added = [f"LINE {i}!" for i in range(9)]
    directory = prepared(tmp_path, train=train, monolingual=["new", *added])
    found = {name: read_table(directory / f"{name}.parquet", CORPUS) for name in ("train", "valid", "test.test")}
    held_out = {line for name in ("valid", "test.test") for line in found[name]["source"].to_pylist()}
    expected = [line for line in lines if line not in held_out]
    expected += ["new", *(line for line in added if line.lower().strip("!") not in held_out)]
    assert len(held_out) == 4 and found["train"]["source"].to_pylist() == expected
    facts = json.loads((directory / "corpus.json").read_text())
    assert facts["cleaning"]["train"]["leak"] == 4


def test_rows_without_a_target_train_nothing(tmp_path: Path) -> None:
    rows = {"id": [1, 2], "source": [[7], [8]], "target": [[9], []]}
    write_table(tmp_path / "e.parquet", ENCODED, pa.table(rows, schema=ENCODED.schema))
    assert EncodedCorpus.read(tmp_path / "e.parquet", 10, paired=True).ids.tolist() == [1]
    assert EncodedCorpus.read(tmp_path / "e.parquet", 10).ids.tolist() == [1, 2]


def filled(tmp_path: Path, directory: Path, outputs: dict[str, dict[int, list[Output]]]) -> Path:
    teacher = CommandTeacher(kind="command", arguments=["none"])
    parts = [translations_part(teacher, list(rows), rows, split) for split, rows in outputs.items()]
    write_table(directory / "outputs.parquet", TRANSLATIONS, parts)
    arguments = ["--teacher", teacher.model_dump_json(), "--outputs", str(directory / "outputs.parquet")]
    arguments += ["--sources", str(directory), "--output", str(tmp_path / "corpus")]
    fill_references.main(fill_references.parser().parse_args(arguments))
    return tmp_path / "corpus"


def test_outputs_become_references_by_id_and_rejected_ones_are_dropped(tmp_path: Path) -> None:
    directory = prepared(tmp_path, train=["a b", "c"], **HELD_OUT)
    outputs = {
        "valid": {1: [Output("zwei")], 0: [Output("eins")]},
        "test": {0: [Output("")], 1: [Output("t 2")], 2: [Output("drei")]},
    }
    corpus = filled(tmp_path, directory, outputs)
    assert sorted(path.name for path in corpus.iterdir()) == [
        "cleaning.parquet", "corpus.json", "test.test.parquet", "train.parquet", "valid.parquet",
    ]  # fmt: skip
    valid = read_table(corpus / "valid.parquet", CORPUS)
    assert dict(zip(valid["source"].to_pylist(), references_of(valid), strict=True)) == {
        "v 1": ["eins"],
        "v 2": ["zwei"],
    }
    test = read_table(corpus / "test.test.parquet", CORPUS)
    assert (test["id"].to_pylist(), test["target"].to_pylist()) == ([2], ["drei"])
    facts = json.loads((corpus / "corpus.json").read_text())
    digest = hashlib.sha256(text_of(read_table(corpus / "test.test.parquet", CORPUS)).encode()).hexdigest()
    expected = {"pairs": 1, "sha256": digest, "references": "external"}
    assert facts["splits"]["test"] == {**facts["splits"]["test"], **expected}
    rows = read_table(corpus / "cleaning.parquet", CLEANING).to_pylist()
    assert {"split": "test", "reason": "rejected", "pairs": 2} in rows
    outputs["valid"] = {0: [Output("")], 1: [Output("")]}
    with pytest.raises(RetortError, match="valid.parquet: every output of the external teacher is rejected"):
        filled(tmp_path, directory, outputs)


def test_the_target_side_of_the_vocabulary_is_the_teachers(tmp_path: Path) -> None:
    directory = prepared(tmp_path, train=[f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"], **HELD_OUT)
    teacher = CommandTeacher(kind="command", arguments=["none"])
    ids = read_table(directory / "train.parquet", CORPUS)["id"].to_pylist()
    part = translations_part(teacher, ids, {i: [Output("xyz" if i % 2 else "zyx")] for i in ids}, "train")
    write_table(tmp_path / "judged.parquet", TRANSLATIONS, part)
    settings = config.Vocabulary(size=32, joint=False, type="bpe")
    settings = settings.model_copy(update={"size": 20})
    vocabulary = train_vocabulary(
        directory / "train.parquet", settings, 1, tmp_path / "vocabulary", outputs=tmp_path / "judged.parquet"
    )
    assert any("x" in piece for piece in vocabulary.target_pieces)
    assert not any("x" in piece for piece in vocabulary.source_pieces)
