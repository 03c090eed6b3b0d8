"""FairytaleQA (Xu et al. 2022) as lines for question generation, from the archive of its public repository.

A source is "<answer> [SEP] <passage>": the first annotator's answer, and the sections of the story that the question is
about. The splits are the corpus's own, whose stories are disjoint; files come in the order of their names.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from retort.corpus.zips import open_member
from retort.errors import RetortError

SEPARATOR = "[SEP]"
FIELDS = ("source", "question")
_LARGEST = 64 * 2**20
"""Bytes of a table of one story."""


def lines(archive: Path, split: str, field: str) -> Iterator[str]:
    """The sources or questions of train, val or test in the zip ``archive``, every run of white space as one space.

    Raises RetortError for another field, or where the archive does not hold the split or the sections it names.
    """
    if field not in FIELDS:
        raise RetortError(f"{archive}: FairytaleQA has no field {field!r}; use {' or '.join(FIELDS)}")
    with zipfile.ZipFile(archive) as opened:
        folder = f"/data-by-train-split/questions/{split}/"
        names = sorted(name for name in opened.namelist() if folder in name and name.endswith("-questions.csv"))
        if not names:
            raise RetortError(f"{archive}: holds no questions of split {split!r}; set member to train, val or test")
        for name in names:
            story = name.replace("/questions/", "/section-stories/").replace("-questions.csv", "-story.csv")
            sections = {row["section"].strip(): row["text"] for row in _rows(opened, story, ("section", "text"))}
            for row in _rows(opened, name, ("question_id", "question", "answer1", "cor_section")):
                yield _question(row) if field == "question" else _source(row, sections, name)


def _question(row: dict[str, str]) -> str:
    return " ".join(row["question"].split())


def _source(row: dict[str, str], sections: dict[str, str], name: str) -> str:
    wanted = [number.strip() for number in row["cor_section"].split(",")]
    missing = [number for number in wanted if number not in sections]
    if missing:
        raise RetortError(f"{name}: question {row['question_id']} is about section {missing[0]}, which its story lacks")
    passage = " ".join(sections[number] for number in wanted)
    return " ".join(f"{row['answer1']} {SEPARATOR} {passage}".split())


def _rows(archive: zipfile.ZipFile, name: str, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    where = f"{archive.filename}: {name}"
    try:
        with open_member(archive, name) as member:
            content = member.read(_LARGEST + 1)
    except KeyError:
        raise RetortError(f"{archive.filename}: holds no {name}; expected the whole repository") from None
    if len(content) > _LARGEST:
        raise RetortError(f"{where} has more than {_LARGEST >> 20} MiB; expected the tables of one story")
    try:
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        if missing := [column for column in columns if column not in (rows.fieldnames or ())]:
            raise RetortError(f"{where} has no column {missing[0]}; expected {', '.join(columns)}")
        for row in rows:
            if lacking := [column for column in columns if row[column] is None]:
                raise RetortError(f"{where}: line {rows.line_num}: no {lacking[0]}; expected {', '.join(columns)}")
            yield row
    except (UnicodeDecodeError, csv.Error) as error:
        raise RetortError(f"{where} is no table in UTF-8 ({error}); expected {', '.join(columns)}") from None
