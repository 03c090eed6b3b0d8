"""Outputs in a table that somebody made: TSV, CSV, JSON lines or Parquet."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retort.config.external import TableTeacher
from retort.data.appearance import BEGINNING, suspicions
from retort.data.files import check_file
from retort.errors import RetortError
from retort.teachers.base import Answer, Output, Question, Teacher, one_line

log = logging.getLogger(__name__)

SHOWN = 5
"""Keys that an error names."""
SHOWN_LETTERS = 200
LONGEST_FIELD = 32 << 20
"""Characters of a field of CSV."""
SEPARATORS = {".tsv": "\t", ".csv": ","}

Key = int | str
Row = tuple[str, Key, list[str]]
"""Where it is in the file, its id or source, and its outputs."""


class TableAnswers(Teacher):
    """All outputs of a table, in memory, as many of each row as are asked for."""

    def __init__(self, path: Path, section: TableTeacher) -> None:
        self.path, self.section = path, section
        self.outputs: dict[Key, list[str]] = {}
        for place, key, texts in _rows(path, section.key):
            outputs = [one_line(text) for text in texts[: section.outputs]]
            # of no source there is nothing to translate
            if key == "" or self.outputs.get(key) == outputs:
                continue
            if key in self.outputs:
                raise self._contradiction(place, key, key)
            self.outputs[key] = outputs
        if separator := SEPARATORS.get(path.suffix.lower()):
            with path.open("rb") as table:
                for suspicion in suspicions(table.read(BEGINNING), column=1, separator=separator):
                    log.warning("%s: %s", path, suspicion)
        # the spaces of a source may be others in the corpus
        self._spaced: dict[str, list[str]] = {}
        for source in map(str, self.outputs):
            if (line := one_line(source)) != source:
                self._spaced.setdefault(line, []).append(source)

    def answer(self, questions: Sequence[Question]) -> Iterator[Answer]:
        keys = list(map(self._key_of, questions))
        missing = [key for key in keys if key not in self.outputs]
        if missing:
            shown = ", ".join(map(repr, missing[:SHOWN])) + (", ..." if len(missing) > SHOWN else "")
            raise RetortError(
                f"{self.path}: no output for {len(missing)} of {len(keys)} sources, by {self.section.key}: {shown}; "
                f"add them to the table, or leave these sources out of the corpus"
            )
        for question, key in zip(questions, keys, strict=True):
            yield Answer(question, [Output(text) for text in self.outputs[key]])

    def _key_of(self, question: Question) -> Key:
        """Its id, or its source: as it is where the table has it so, else on one line, else with other spaces."""
        if self.section.key == "id":
            return question.id
        line = one_line(question.source)
        for source in (question.source, line):
            if source in self.outputs:
                return source
        first, *others = self._spaced.get(line, [line])
        for other in others:
            if self.outputs[other] != self.outputs[first]:
                raise self._contradiction(self._place(other), other, first)
        return first

    def _contradiction(self, place: str, key: Key, earlier: Key) -> RetortError:
        return RetortError(
            f"{self.path}: {place}: {self.section.key} {key!r} is already in {self._place(earlier)}, with other "
            f"outputs; expected each {self.section.key} once: remove one of the two"
        )

    def _place(self, key: Key) -> str:
        """Where a key is first."""
        return next(place for place, found, _ in _rows(self.path, self.section.key) if found == key)


def open_teacher(section: TableTeacher, split: str, threads: int, spent: tuple[int, int]) -> TableAnswers:
    """The outputs of a split; raises RetortError if the table cannot be read, or has a key twice."""
    path = section.path if split == "train" else section.held_out.get(split)
    if path is None:
        raise RetortError(f"external_teacher.held_out: no table for {split}; name one to have it translated")
    return TableAnswers(Path(path), section)


def _rows(path: Path, key: str) -> Iterator[Row]:
    """Rows of a table by the ending of its name."""
    if path.name.lower().endswith(".parquet"):
        return _parquet_rows(path, key)
    if separator := SEPARATORS.get(path.suffix.lower()):
        return _text_rows(path, key, separator)
    return _json_rows(path, key)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        check_file(path)
        with path.open("rb") as handle:
            for number, line in enumerate(handle, start=1):
                yield number, line.decode("utf-8").removeprefix("\ufeff" if number == 1 else "").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise RetortError(
            f"{path}: line {number}: not UTF-8 (byte 0x{error.object[error.start]:02x}: {error.reason}); convert the "
            f"file to UTF-8 first"
        ) from None
    except OSError as error:
        raise RetortError(f"{path}: cannot be read ({error.strerror}); expected a table of outputs") from None


def _text_rows(path: Path, key: str, separator: str) -> Iterator[Row]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            fields = _comma_separated(line) if separator == "," else line.split("\t")
        except csv.Error as error:
            raise RetortError(
                f"{path}: line {number}: no CSV ({error}); expected a row per line: put each output on one line"
            ) from None
        if len(fields) < 2:
            raise RetortError(
                f"{path}: line {number}: {len(fields)} column(s); expected the {key} and the output, separated by a "
                f"{'comma' if separator == ',' else 'tab'}"
            )
        yield f"line {number}", _key(path, f"line {number}", key=key, value=fields[0]), fields[1:]


def _comma_separated(line: str) -> list[str]:
    # the limit is the whole process's, and other tables keep to a lower one
    before = csv.field_size_limit(LONGEST_FIELD)
    try:
        return next(csv.reader([line], strict=True), [])
    finally:
        csv.field_size_limit(before)


def _json_rows(path: Path, key: str) -> Iterator[Row]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            value, text = row[key], row["text"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            found = f"{type(error).__name__}: {error}"
            if isinstance(error, KeyError):
                found = f"found the fields {', '.join(map(repr, row)) or 'of an empty object'}"
            raise RetortError(
                f"{path}: line {number}: {found[:SHOWN_LETTERS]}; expected a JSON object with {key} and text"
            ) from None
        yield f"line {number}", _key(path, f"line {number}", key=key, value=value), _texts(path, f"line {number}", text)


def _parquet_rows(path: Path, key: str) -> Iterator[Row]:
    try:
        check_file(path)
        names = pq.read_schema(path).names
        wanted = [key, "text", *(["rank"] if "rank" in names else [])]
        data = pq.read_table(path, columns=[name for name in wanted if name in names])
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise RetortError(f"{path}: cannot be read ({error}); expected a Parquet table") from None
    missing = [name for name in wanted if name not in names]
    if missing:
        raise RetortError(f"{path}: no column {' or '.join(missing)}; it has {', '.join(names)}")
    if "rank" in names:
        yield from _ranked(path, key, _sorted(path, key, data))
        return
    for number, (value, text) in enumerate(zip(data[key].to_pylist(), data["text"].to_pylist(), strict=True)):
        place = f"row {number}"
        yield place, _key(path, place, key=key, value=value), _texts(path, place, text)


def _sorted(path: Path, key: str, data: pa.Table) -> pa.Table:
    """The rows by their keys and ranks. Raises RetortError for ranks that are no numbers."""
    keys = data[key]
    if pa.types.is_dictionary(keys.type):
        keys = keys.cast(keys.type.value_type)
    if pa.types.is_string_view(keys.type):
        keys = keys.cast(pa.large_string())
    try:
        ranks = data["rank"].cast(pa.int64())
    except pa.ArrowException as error:
        raise RetortError(f"{path}: rank: {one_line(str(error))[:SHOWN_LETTERS]}; expected integers") from None
    rows = pa.table({key: keys, "text": data["text"], "rank": ranks})
    try:
        return rows.sort_by([(key, "ascending"), ("rank", "ascending")])
    except pa.ArrowException as error:
        found = one_line(str(error))[:SHOWN_LETTERS]
        raise RetortError(f"{path}: {key}: {found}; expected texts or integers") from None


def _ranked(path: Path, key: str, data: pa.Table) -> Iterator[Row]:
    """One row per key of a table with one row per output."""
    own: list[str] = []
    previous: Any = None
    last_rank: Any = None
    for value, text, rank in zip(*(data[name].to_pylist() for name in (key, "text", "rank")), strict=True):
        if key == "source" and isinstance(value, str) and not value.strip():
            continue
        if own and value != previous:
            yield f"{key} {previous!r}", _key(path, f"{key} {previous!r}", key=key, value=previous), own
            own = []
        elif own and rank == last_rank and _texts(path, f"{key} {value!r}", text) == own[-1:]:
            continue
        elif own and rank == last_rank:
            raise RetortError(f"{path}: {key} {value!r} has rank {rank} twice; expected each rank once")
        own = [*own, *_texts(path, f"{key} {value!r}", text)]
        previous, last_rank = value, rank
    if own:
        yield f"{key} {previous!r}", _key(path, f"{key} {previous!r}", key=key, value=previous), own


def _key(path: Path, place: str, key: str, value: Any) -> Key:
    if key == "source" and isinstance(value, str):
        return value.strip()
    if key == "id" and not isinstance(value, bool | float):
        try:
            return int(value)
        except (TypeError, ValueError):
            pass
    expected = "text" if key == "source" else "an integer; set key: source where the table has sources"
    raise RetortError(f"{path}: {place}: {key} is {value!r:.{SHOWN_LETTERS}}; expected {expected}")


def _texts(path: Path, place: str, text: Any) -> list[str]:
    texts = text if isinstance(text, list) else [text]
    if not texts or not all(isinstance(one, str) for one in texts):
        raise RetortError(f"{path}: {place}: text is {text!r:.{SHOWN_LETTERS}}; expected a text, or a list of texts")
    return texts
