"""Outputs in tables that somebody made: every form, and every way to be wrong."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retort.config.external import TableTeacher
from retort.data.parquet import read_table, write_table
from retort.data.references import corpus_table
from retort.data.tables import CORPUS, TRANSLATIONS
from retort.errors import RetortError
from retort.teachers import table
from retort.teachers.base import Question, open_external
from tests.unit.fakes_runs import call
from workflow_scripts import ask_teacher

QUESTIONS = [Question(4, "a cat"), Question(9, "a dog")]


def answers(path: Path, questions: Sequence[Question] = QUESTIONS, **keys: Any) -> dict[int, list[str]]:
    teacher = open_external(TableTeacher(kind="table", path=str(path), **keys), "train")
    return {answer.question.id: [output.text for output in answer.outputs] for answer in teacher.answer(questions)}


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_source_is_found_by_its_words_whatever_the_spaces_between_them(tmp_path: Path) -> None:
    table = written(tmp_path / "a.tsv", "a  cat\teine Katze\na\u00a0dog\tein Hund\na dog\tder Hund\n")
    assert answers(table) == {4: ["eine Katze"], 9: ["der Hund"]}
    questions = [Question(1, "a  cat"), Question(2, "a\u00a0cat"), Question(3, "a\u00a0dog"), Question(4, "a  dog")]
    assert list(answers(table, questions).values()) == [["eine Katze"], ["eine Katze"], ["ein Hund"], ["der Hund"]]


def test_rows_that_differ_only_in_spaces_must_agree_where_neither_is_the_source(tmp_path: Path) -> None:
    table = written(tmp_path / "a.tsv", "a  cat\tx\na\u00a0cat\tx\na  dog\tx\na dog.\tx\na\u00a0dog\ty\n")
    assert answers(table, [Question(1, "a  dog"), Question(2, "a\u00a0dog"), Question(3, "a cat")]) == {
        1: ["x"],
        2: ["y"],
        3: ["x"],
    }
    with pytest.raises(RetortError, match=r"line 5: source 'a\\xa0dog' is already in line 3, with other outputs"):
        answers(table)


def test_quotes_of_a_spreadsheet_and_names_of_columns_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quoted = written(tmp_path / "q.tsv", 'a cat\t"Er sagte ""ja""."\na dog\tein Hund\n')
    assert answers(quoted)[4] == ['"Er sagte ""ja""."']
    named = [written(tmp_path / "n.tsv", "source\ttext\na cat\teine Katze\na dog\tein Hund\n")]
    named.append(written(tmp_path / "n.csv", '"source",text\r\na cat,eine Katze\r\na dog,ein Hund\r\n'))
    usual = [written(tmp_path / "u.tsv", 'a cat\t"Ja."\na dog\tein Hund\n')]
    usual.append(written(tmp_path / "u.csv", 'a cat,"Er sagte ""ja""."\na dog,"ein Hund"\n'))
    for path in (*named, *usual):
        answers(path)
    assert len(caplog.messages) == 3
    assert "q.tsv: quotes of a spreadsheet" in caplog.messages[0] and "column 1 without" in caplog.messages[0]
    for path, message in zip(named, caplog.messages[1:], strict=True):
        assert f"{path.name}: line 1 looks like names of columns" in message


def test_every_form_gives_the_same_outputs(tmp_path: Path) -> None:
    rows = [{"source": "a dog", "text": "ein  Hund"}, {"source": "a cat", "text": ["eine Katze", "die Katze"]}]
    expected = {4: ["eine Katze", "die Katze"], 9: ["ein Hund"]}
    lines = "".join(json.dumps(row) + "\n\n" for row in rows)
    assert answers(written(tmp_path / "a.jsonl", lines), outputs=2) == expected
    assert (
        answers(written(tmp_path / "a.tsv", "a dog\tein Hund\r\na cat\teine Katze\tdie Katze\n"), outputs=2) == expected
    )
    assert (
        answers(written(tmp_path / "a.csv", 'a dog,ein Hund\n"a cat",eine Katze,"die Katze"\n'), outputs=2) == expected
    )
    ranked = parquet(tmp_path / "r.parquet", id=[4, 9, 4], rank=[1, 0, 0], text=["die Katze", "ein Hund", "eine Katze"])
    assert answers(ranked, outputs=2, key="id") == expected
    assert answers(ranked, key="id") == {4: ["eine Katze"], 9: ["ein Hund"]}
    listed = parquet(tmp_path / "l.parquet", id=[9, 4], text=[["ein Hund"], ["eine Katze", "die Katze"]])
    assert answers(listed, outputs=2, key="id") == expected
    assert answers(written(tmp_path / "i.tsv", "9\tein Hund\n4\teine Katze\n"), key="id") == {
        4: ["eine Katze"],
        9: ["ein Hund"],
    }


def test_rows_made_line_by_line_may_repeat_themselves_and_have_no_source(tmp_path: Path) -> None:
    rows = "a cat\teine Katze\n\tnichts\na dog\tein Hund\n\t\n\na cat\teine Katze\n"
    expected = {4: ["eine Katze"], 9: ["ein Hund"]}
    assert answers(written(tmp_path / "a.tsv", rows)) == expected
    ranked = parquet(
        tmp_path / "r.parquet", id=[4, 9, 4], rank=[0, 0, 0], text=["eine Katze", "ein Hund", "eine Katze"]
    )
    assert answers(ranked, key="id") == expected
    sources = ["", "a cat", "", " ", "a dog"]
    texts = ["nichts", "eine Katze", "niemand", "", "ein Hund"]
    unnamed = parquet(tmp_path / "u.parquet", source=sources, rank=[0] * 5, text=texts)
    assert answers(unnamed) == expected


def test_keys_of_ranked_rows_may_be_views_and_no_lists(tmp_path: Path) -> None:
    views = pa.array(["a cat", "a dog"], pa.string_view())
    ranked = parquet(tmp_path / "v.parquet", source=views, rank=[0, 0], text=["eine Katze", "ein Hund"])
    assert answers(ranked) == {4: ["eine Katze"], 9: ["ein Hund"]}
    lists = parquet(tmp_path / "l.parquet", source=[["a cat"], ["a dog"]], rank=[0, 0], text=["x", "y"])
    with pytest.raises(RetortError, match=r"l\.parquet: source: .*expected texts or integers"):
        answers(lists)


def test_a_field_of_csv_may_be_long(tmp_path: Path) -> None:
    long, before = "x" * 200_000, csv.field_size_limit()
    assert answers(written(tmp_path / "a.csv", f"a cat,{long}\na dog,y\n")) == {4: [long], 9: ["y"]}
    assert csv.field_size_limit() == before, "other tables keep their limit"


@pytest.mark.parametrize(
    ("name", "content", "keys", "message"),
    [
        ("a.tsv", "a cat\tx\na cat\ty\n", {}, "line 2: source 'a cat' is already in line 1, with other"),
        ("a.tsv", "a cat\tx\n", {}, "no output for 1 of 2 sources, by source: 'a dog'"),
        ("a.csv", b"a cat,K\xe4tzchen\n", {}, "line 1: not UTF-8 (byte 0xe4"),
        ("a.tsv", "a cat\n", {}, "line 1: 1 column(s); expected the source and the output, separated by a tab"),
        ("a.tsv", "a cat\tx\n", {"key": "id"}, "line 1: id is 'a cat'; expected an integer"),
        ("a.jsonl", '{"source": "a cat"}\n', {}, "line 1: found the fields 'source'; expected a JSON"),
        ("a.jsonl", "{}\n", {}, "line 1: found the fields of an empty object; expected a JSON"),
        ("a.jsonl", "[1\n", {}, "line 1: JSONDecodeError"),
        ("a.jsonl", '{"source": "a cat", "text": 3}\n', {}, "line 1: text is 3; expected a text"),
        ("a.jsonl", '{"id": true, "text": "x"}\n', {"key": "id"}, "line 1: id is True"),
        ("a.jsonl", "[" * 99_999 + "\n", {}, "line 1: RecursionError"),
        ("a.jsonl", f'{{"id": "{"x" * 9999}", "text": "x"}}\n', {"key": "id"}, "line 1: id is 'xxx"),
        ("a.csv", 'a cat,"one\ntwo",three\n', {}, "line 1: no CSV (unexpected end of data)"),
        ("a.parquet", "no table", {}, "expected a Parquet table"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, content: Any, keys: Any, message: str) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(RetortError) as error:
        answers(path, **keys)
    assert str(error.value).startswith(str(path)) and message in str(error.value) and len(str(error.value)) < 1000


def test_halves_of_surrogate_pairs_are_joined_or_replaced(tmp_path: Path) -> None:
    lines = ('{"id": 4, "text": "\\ud83d\\ude00 \\ud83d"}\n', '{"id": 9, "text": "x"}\n')
    assert answers(written(tmp_path / "a.jsonl", "".join(lines)), key="id") == {4: ["\U0001f600 \ufffd"], 9: ["x"]}


@pytest.mark.parametrize("name", ["a.tsv", "a.jsonl", "a.parquet"])
def test_a_pipe_is_no_table(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(RetortError, match=f"{name}: cannot be read .*a pipe or a device"):
        answers(tmp_path / name)


def test_columns_and_ranks_are_checked(tmp_path: Path) -> None:
    with pytest.raises(RetortError, match="no column text; it has id, output"):
        answers(parquet(tmp_path / "a.parquet", id=[4], output=["x"]), key="id")
    with pytest.raises(RetortError, match="id 4 has rank 0 twice"):
        answers(parquet(tmp_path / "b.parquet", id=[4, 4], rank=[0, 0], text=["x", "y"]), key="id")
    with pytest.raises(RetortError, match="b.tsv: cannot be read"):
        answers(tmp_path / "b.tsv")


@pytest.mark.parametrize("kind", [pa.int8(), pa.float64(), pa.string(), pa.dictionary(pa.int8(), pa.string())])
def test_ranks_are_numbers_and_keys_may_be_categories(tmp_path: Path, kind: pa.DataType) -> None:
    sources = pa.array(["a cat"] * 11 + ["a dog"]).dictionary_encode()
    ranks = pa.array([*range(10, -1, -1), 0]).cast(pa.string()).cast(kind)
    texts = [*(f"output {i}" for i in range(10, -1, -1)), "x"]
    table = parquet(tmp_path / "a.parquet", source=sources, rank=ranks, text=texts)
    assert answers(table, outputs=20) == {4: [f"output {i}" for i in range(11)], 9: ["x"]}


def test_a_rank_that_is_no_number_is_an_error(tmp_path: Path) -> None:
    for ranks in (["first", "second"], [0.5, 1.5], [[0], [1]]):
        table = parquet(tmp_path / "a.parquet", source=["a cat"] * 2, rank=ranks, text=["x", "y"])
        with pytest.raises(RetortError, match=r"a\.parquet: rank: .*; expected integers"):
            answers(table)


def test_a_table_is_read_once_per_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sources are asked about in parts."""
    monkeypatch.setattr(ask_teacher, "PART_ROWS", 2)
    sources = [f"source {i}" for i in range(5)]
    for split in ("train", "test.test"):
        write_table(tmp_path / f"{split}.parquet", CORPUS, corpus_table(range(5), sources, [[]] * 5))
    outputs = written(tmp_path / "t.tsv", "".join(f"{source}\tto {source}\n" for source in sources))
    section = TableTeacher(kind="table", path=str(outputs), held_out={"test": str(outputs)})
    read: list[Path] = []
    monkeypatch.setattr(table, "check_file", read.append)
    corpora = [tmp_path / "train.parquet", tmp_path / "test.test.parquet"]
    options = ["--teacher", section.model_dump_json(), "--answers", tmp_path / "a", "--output", tmp_path / "o.parquet"]
    call(ask_teacher, "--corpora", *corpora, *options)
    found = read_table(tmp_path / "o.parquet", TRANSLATIONS)
    assert found["text"].to_pylist() == [f"to {source}" for source in sources] * 2
    assert read == [outputs] * 2


def test_each_split_has_its_table(tmp_path: Path) -> None:
    section = TableTeacher(
        kind="table", path="train.tsv", held_out={"test": str(written(tmp_path / "t.tsv", "s\tt\n"))}
    )
    assert section.answers_splits(("test",)) and not section.answers_splits(("test", "other"))
    (answer,) = open_external(section, "test").answer([Question(0, "s")])
    assert answer.outputs[0].text == "t"
    with pytest.raises(RetortError, match="no table for other"):
        open_external(section, "other")
