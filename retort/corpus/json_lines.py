"""Texts in JSON lines: a field of an object in each line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from retort.errors import RetortError

_SHOWN = 200
"""Characters of what was found that an error shows."""


def lines(rows: Iterable[str], field: str, name: str, several: bool) -> Iterator[str]:
    """The texts that ``field`` names in each row, white space between words as one space; empty rows are skipped.

    The texts of a list are one line: with ``several`` they are separated by tabs. ``name`` is for errors. Raises
    RetortError for a row that has no such text.
    """
    for number, row in enumerate(rows, start=1):
        if not row.strip():
            continue
        try:
            texts = [" ".join(part.split()) for part in _texts_at(row, field)]
        except ValueError as error:
            raise RetortError(
                f"{name}: line {number}: no text {field!r} ({str(error)[:_SHOWN]}); expected a JSON object with a "
                f"text, or a list of texts, of that name; a.b is field b of the object a"
            ) from None
        if any(map(_has_surrogates, texts)):
            raise RetortError(
                f"{name}: line {number}: field {field!r} holds half of a surrogate pair, which is no character; "
                f"correct the escape \\ud800 to \\udfff in it, or remove the line"
            )
        yield "\t".join(texts) if several else " ".join(" ".join(texts).split())


def _texts_at(line: str, field: str) -> list[str]:
    """The texts in a line of JSON that ``field`` names: a key, or a path of keys joined by dots. Raises ValueError."""
    try:
        # no number is needed, and an integer of thousands of digits is one
        value = json.loads(line, object_pairs_hook=_each_once, parse_int=float)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    whole = isinstance(value, dict) and field in value
    for key in [field] if whole else field.split("."):
        if not isinstance(value, dict):
            raise ValueError(f"found {_kind(value)} where an object is expected")
        if key not in value:
            raise ValueError(f"found the fields {', '.join(map(repr, value)) or 'of an empty object'}")
        value = value[key]
    texts = value if isinstance(value, list) else [value]
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"found {_kind(text)}")
    return texts


def _kind(value: Any) -> str:
    """What a value of JSON is, in words."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = ((dict, "an object"), (list, "a list"), (str, "a text"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "a number")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; raises ValueError for a key that is there twice."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return value


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
