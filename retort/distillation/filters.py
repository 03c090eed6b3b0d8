"""Filters of an external teacher's outputs: each finds one kind of output that should not train."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from retort.config.external import Filters
from retort.data.writing import count_words, is_unspaced, length_ratio

EMPTY, TRUNCATED = "empty", "truncated"
COPIED, RATIO, REPEATS, SCRIPT, CHATTER = "copied", "max_ratio", "repeats", "scripts", "chatter"
REASONS = (EMPTY, TRUNCATED, CHATTER, COPIED, RATIO, REPEATS, SCRIPT)
"""Why an output trains nothing, in the order in which the filters are tried."""

LONGEST_CYCLE = 8
"""Words, or characters, of the longest phrase whose repetition is looked for."""
LEAST_WORDS = 4
"""Words from which a share of copied words says something."""


def thresholds(filters: Filters) -> dict[str, str | None]:
    """The threshold of each reason, as text; None where the filter is off, empty text where there is none."""
    scripts = f"{filters.script_share:g} of {', '.join(filters.scripts)}" if filters.scripts else None
    return {
        EMPTY: "",
        TRUNCATED: "",
        CHATTER: f"{len(filters.chatter)} patterns" if filters.chatter else None,
        COPIED: None if filters.copied is None else f"{filters.copied:g}",
        RATIO: None if filters.max_ratio is None else f"{filters.max_ratio:g}",
        REPEATS: None if filters.repeats is None else f"{filters.repeats}",
        SCRIPT: scripts,
    }


def reason_against(source: str, text: str, truncated: bool, filters: Filters) -> str | None:
    """The first reason why an output should not train; None where there is none."""
    if not text:
        return EMPTY
    if truncated:
        return TRUNCATED
    if filters.chatter and is_chatter(text, filters.chatter) and not is_chatter(source, filters.chatter):
        return CHATTER
    if filters.copied is not None and is_copied(source, text, filters.copied):
        return COPIED
    if filters.max_ratio is not None and length_ratio(count_words(source), count_words(text)) > filters.max_ratio:
        return RATIO
    if filters.repeats is not None and repeats(text) >= filters.repeats > repeats(source):
        return REPEATS
    if filters.scripts and share_of_scripts(text, filters.scripts) < filters.script_share:
        return SCRIPT
    return None


def is_chatter(text: str, patterns: list[str]) -> bool:
    """Whether the text begins with one of the patterns, after quotation marks and white space."""
    start = text.lstrip(" \t\"'*#“”„«»")
    # one by one, since numbers of groups and flags are each pattern's own
    return any(re.match(pattern, start, re.IGNORECASE) for pattern in patterns)


def is_copied(source: str, text: str, share: float) -> bool:
    """Whether so much of the text is the source's: words with their counts, case aside. Short texts must be equal."""
    own, theirs = text.casefold().split(), source.casefold().split()
    if len(own) < LEAST_WORDS:
        return own == theirs
    common = Counter(own) & Counter(theirs)
    return common.total() >= share * len(own)


def repeats(text: str) -> int:
    """How often the same phrase of up to ``LONGEST_CYCLE`` words follows itself, at most; characters in a script
    without spaces. 1 where nothing is repeated."""
    units = [c for c in text if not c.isspace()] if is_unspaced(text) else text.casefold().split()
    most = 1
    for size in range(1, min(LONGEST_CYCLE, len(units) // 2) + 1):
        run = 0
        for left, right in zip(units, units[size:], strict=False):
            run = run + 1 if left == right else 0
            most = max(most, run // size + 1)
    return most


def share_of_scripts(text: str, scripts: Sequence[str]) -> float:
    """Share of the letters that are of these scripts; 1 where there are no letters."""
    letters = [script_of(character) for character in text if character.isalpha()]
    return sum(script in scripts for script in letters) / len(letters) if letters else 1.0


@lru_cache(maxsize=65_536)
def script_of(character: str) -> str:
    """The first word of a letter's Unicode name, in lower case; full-width and half-width letters have their own's."""
    name = unicodedata.name(unicodedata.normalize("NFKC", character)[:1] or character, "")
    return name.partition(" ")[0].partition("-")[0].lower()
