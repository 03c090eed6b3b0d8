"""What the beginning of a text looks like where it is not read as its author may expect."""

from __future__ import annotations

import re
from collections.abc import Iterator

from retort.data.compression import compression_of

BEGINNING = 4096
"""Bytes that are looked at."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_UTF32 = (b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")
_NUL_SHARE = 1 / 4
"""Share of NUL in the first bytes above which a file is no text; in UTF-16 without a mark, Latin letters have half."""
_FORMATS = {
    b"%PDF-1.": "a PDF document",
    b"{\\rtf": "an RTF document",
    b"\xd0\xcf\x11\xe0": "an Office document",
    b"\x89PNG\r\n": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"PAR1\x15": "a Parquet file",
    b"ARROW1\0": "an Arrow file",
    b"SQLite format 3\0": "a database",
    b"PK\x03\x04": "a zip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\x04\x22\x4d\x18": "data compressed with lz4",
    b"\x5d\x00\x00": "data compressed with lzma",
    b"\x1f\x9d": "data compressed with compress",
}
"""First bytes of files that are no text and that people have."""
_COLUMN_NAME = re.compile(
    r"source|target|src|tgt|trg|ref|reference|references|sentence\d?|text|[a-z]{2}([-_][a-z]{2})?"
    r"|arabic|chinese|czech|dutch|english|finnish|french|german|greek|hindi|hungarian|italian|japanese|korean|polish"
    r"|portuguese|romanian|russian|spanish|swedish|turkish|ukrainian|vietnamese",
    re.I,
)
_SIDES = (
    r"source|src|input|prompt|question|query|instruction|article|document|context|passage|paragraph|dialogue",
    r"target|tgt|trg|output|completion|answer|response|reply|summary|highlights|headline|title|translation"
    r"|reference|ref|label",
)
"""What fields of source and target are called, also in the plural, and with other words before or behind."""
_SHOWN = 40
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
"""A field in the quotes of a spreadsheet, which are doubled inside."""


def foreign_format(beginning: bytes) -> str | None:
    """What a file is that is no text in any encoding, or a compressed one that was compressed twice."""
    if found := compression_of(beginning):
        return f"data compressed with {found.name}"
    if is_tar(beginning):
        return "a tar archive"
    return next((name for first, name in _FORMATS.items() if beginning.startswith(first)), None)


def is_tar(beginning: bytes) -> bool:
    """Whether these are the first bytes of a tar archive."""
    return beginning[257:262] == b"ustar"


def foreign_encoding(beginning: bytes) -> str | None:
    """The encoding of a text that is not UTF-8, and how it is known."""
    if beginning[:4] in _UTF32:
        return "UTF-32 by its first four bytes"
    if beginning[:2] in _UTF16:
        return "UTF-16 by its first two bytes"
    if beginning.count(0) > _NUL_SHARE * len(beginning):
        return "UTF-16 without a byte order mark, or binary data, by the many NUL bytes at its beginning"
    return None


def is_old_mac(beginning: bytes) -> bool:
    """Whether lines end with carriage returns alone."""
    return b"\n" not in beginning and beginning.count(b"\r") > 1


def is_column_name(name: str) -> bool:
    """Whether this names a side of parallel text, such as source or de."""
    return bool(_COLUMN_NAME.fullmatch(name))


def _heads_a_column(field: str) -> bool:
    return is_column_name(field) or (field.isidentifier() and side_named(field) is not None)


def side_named(name: str) -> int | None:
    """The side of a pair that this names: 0 for the source, such as src_text, 1 for the target; None: neither."""
    said = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    found = {side for side, names in enumerate(_SIDES) for word in said if re.fullmatch(f"({names})s?", word, re.I)}
    return found.pop() if len(found) == 1 else None


def suspicions(beginning: bytes, column: int | None = None, separator: str = "\t") -> Iterator[str]:
    """What to warn about in a text that is read line by line; ``column``: of lines whose fields are separated so."""
    if is_old_mac(beginning):
        yield "its lines end with \\r alone, as on old Macs, and \\r does not end a line here; convert it first"
    text = beginning.decode("utf-8", "ignore").removeprefix("\ufeff").lstrip()
    line = text.partition("\n")[0]
    if text.startswith("<?xml") or text[:4].lower() == "<tmx":
        yield "it begins as XML, such as a TMX file, and is read line by line, tags and all; use layout: tmx"
    elif column is not None and all(_heads_a_column(field.strip('" \r')) for field in line.split(separator)):
        yield f"line 1 looks like names of columns ({line.strip()[:_SHOWN]!r}) and is read as text; remove it"
    if column is not None and separator == "\t":
        rows = [row.split("\t") for row in text.split("\n")[:-1]]
        fields = [row[column].strip() for row in rows if column < len(row)]
        quoted = list(filter(_QUOTED.fullmatch, fields))
        if 2 * len(quoted) > len(fields) or any('""' in field[1:-1] for field in quoted):
            shown = repr(quoted[0][:_SHOWN])
            yield f"quotes of a spreadsheet ({shown}) are read as text; write column {column} without them"
