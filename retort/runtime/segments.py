"""Lines of running text as segments that a model can read, and together again.

A line is split into sentences after a full stop and its like. A sentence that is longer than the model reads is split
further, at the last clause mark or white space that fits. The rules know no language: they look at marks, letter case
and a few abbreviations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

STOPS, CLAUSE_MARKS = "\u3002\uff01\uff1f", "\uff0c\u3001\uff1b\uff1a"
"""Marks after which scripts without spaces end a sentence, or a clause."""
CLOSING, OPENING = "\"'\u2019\u201c\u201d\u00ab\u00bb)\\]", "\"'\u2018\u201c\u201d\u201e\u00ab\u00bb\u00a1\u00bf(\\["
WIDE_CLOSING, QUOTES = "\u300d\u300f\uff09\u300b\u3009\u3011\u3015", "\u201d\u2019"
"""What closes after such a mark; the quotation marks are those of other scripts, too."""
END = re.compile(
    rf"(?<=[.!?\u2026])[{CLOSING}]*(\s+)(?=[{OPENING}]*(\w))"
    rf"|(?<=[{STOPS}])(?![{STOPS}.!?\u2026])[{WIDE_CLOSING}{QUOTES}]*(\s*)"
)
"""The end of a sentence; groups 1 and 3 are the white space after it, and group 2 is the first letter of the next."""
ABBREVIATIONS = frozenset(
    {"Mr", "Mrs", "Ms", "Dr", "Prof", "St", "Sr", "Jr", "vs", "etc", "No", "Nr", "Fig", "Abb", "bzw", "ca", "vgl", "Hr"}
    | {"Fr", "Mme", "Sra", "Dra", "e.g", "i.e", "z.B", "d.h", "u.a", "p.ex"}
)
CLAUSE = re.compile(rf"(?<=[;:,\u2013\u2014])\s+|(?<=[{CLAUSE_MARKS}])")
SPACE = re.compile(r"\s+")
_SHORT = 256
"""Characters from which on the length of a piece is looked for."""
_ABBREVIATION = 200
"""Characters before a full stop that can be an abbreviation, white space included."""


class Segment(NamedTuple):
    """A piece of a line."""

    text: str
    space: str
    """White space after it, as the line has it."""


def segments(line: str, fits: Callable[[str], bool]) -> list[Segment]:
    """The segments of a line without its own edges; none of white space alone. All fit, if they can be split."""
    return [piece for sentence in sentences(line.strip()) for piece in _fitting(sentence, fits)]


def joined(parts: Sequence[Segment], translations: Sequence[str]) -> str:
    """The translations with the white space of the line between them. Where the line has none, as in Chinese, there is
    a space. After marks of scripts without spaces there is none."""
    text = ""
    for part, translation in zip(parts, translations, strict=True):
        text += translation
        if translation and not translation.rstrip(QUOTES).endswith(tuple(STOPS + CLAUSE_MARKS + WIDE_CLOSING)):
            text += part.space or " "
    return text.rstrip()


def sentences(text: str) -> Iterator[Segment]:
    """The sentences of a text that begins and ends with no white space."""
    start = 0
    for match in END.finditer(text):
        space = match[1] or match[3] or ""
        end = match.end() - len(space)
        goes_on = bool(match[2]) and (
            match[2].islower() or _is_abbreviation(text[max(start, end - _ABBREVIATION) : end])
        )
        if end > start and match.end() < len(text) and not goes_on:
            yield Segment(text[start:end], space)
            start = match.end()
    if start < len(text):
        yield Segment(text[start:], "")


def _is_abbreviation(sentence: str) -> bool:
    """Whether the full stop at its end is that of an abbreviation, an initial or an ordinal number."""
    if not sentence.endswith("."):
        return False
    word = sentence[:-1].rsplit(maxsplit=1)[-1].lstrip("\"'(\u201e\u201c\u00ab") if sentence[:-1].strip() else ""
    return word in ABBREVIATIONS or (len(word) == 1 and word.isalpha()) or (word.isdigit() and len(word) <= 2)


def _fitting(sentence: Segment, fits: Callable[[str], bool]) -> Iterator[Segment]:
    """The sentence, or the longest pieces of it that fit. Takes time in proportion to its length."""
    text, start = sentence.text, 0
    while (end := _beyond(text, start, fits)) is not None:
        cut = _last_fitting(text, start, end, CLAUSE, fits) or _last_fitting(text, start, end, SPACE, fits)
        if cut is None:
            # one word is longer than the model reads
            stop = start + _longest_beginning(text[start:end], fits)
            cut = (stop, stop)
        yield Segment(text[start : cut[0]], text[cut[0] : cut[1]])
        start = cut[1]
    yield Segment(text[start:], sentence.space)


def _beyond(text: str, start: int, fits: Callable[[str], bool]) -> int | None:
    """Where a piece that begins at ``start`` is too long; at most about twice too long, if it is not short. None if the
    rest of the text fits."""
    size = _SHORT
    while fits(text[start : start + size]):
        if start + size >= len(text):
            return None
        size *= 2
    return min(start + size, len(text))


def _last_fitting(
    text: str, start: int, end: int, pattern: re.Pattern[str], fits: Callable[[str], bool]
) -> tuple[int, int] | None:
    """Where the last match begins and ends, not beyond ``end``, of which the text from ``start`` to it fits."""
    while end < len(text) and text[end].isspace():
        end += 1
    matches = (match.span() for match in pattern.finditer(text, start, end))
    places = [span for span in matches if span[0] > start and span[1] < len(text)]
    low, high = 0, len(places)
    while low < high:
        middle = (low + high) // 2
        if fits(text[start : places[middle][0]]):
            low = middle + 1
        else:
            high = middle
    return places[low - 1] if low else None


def _longest_beginning(text: str, fits: Callable[[str], bool]) -> int:
    """Characters of the longest beginning that fits, at least one."""
    low, high = 1, len(text)
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(text[:middle]) else (low, middle)
    return low
