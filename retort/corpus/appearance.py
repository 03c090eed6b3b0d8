"""What the beginning of a text looks like where it is not read as its author may expect."""

from __future__ import annotations

import re
from collections.abc import Iterator

BEGINNING = 4096
"""Bytes that are looked at."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_COLUMN_NAME = re.compile(
    r"source|target|src|tgt|trg|ref|reference|references|sentence\d?|text|[a-z]{2}(-[a-z]{2})?", re.I
)
_SHOWN = 40


def is_utf16(beginning: bytes) -> bool:
    """Whether the text begins with the byte order mark of UTF-16."""
    return beginning[:2] in _UTF16


def is_old_mac(beginning: bytes) -> bool:
    """Whether lines end with carriage returns alone."""
    return b"\n" not in beginning and beginning.count(b"\r") > 1


def suspicions(beginning: bytes, column: int | None = None) -> Iterator[str]:
    """What to warn about in a text that is read line by line; ``column``: of tab-separated lines."""
    if is_old_mac(beginning):
        yield "its lines end with \\r alone, as on old Macs, and \\r does not end a line here; convert it first"
    text = beginning.decode("utf-8", "ignore").removeprefix("\ufeff").lstrip()
    line = text.partition("\n")[0]
    if text.startswith("<?xml") or text[:4].lower() == "<tmx":
        yield "it begins as XML, such as a TMX file, and is read line by line, tags and all; use layout: tmx"
    elif column is not None and all(map(_COLUMN_NAME.fullmatch, map(str.strip, line.split("\t")))):
        yield f"line 1 looks like names of columns ({line.strip()[:_SHOWN]!r}) and is read as text; remove it"
