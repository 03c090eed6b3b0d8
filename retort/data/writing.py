"""Writing systems without spaces between words: which a text uses, and lengths that do not depend on spaces.

Korean, Arabic and Hebrew have spaces, so their words are white-space separated ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_RANGES = {
    "han": "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "kana": "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9d",
    "thai": "\u0e01-\u0e4e",
    "lao": "\u0e81-\u0ece\u0edc-\u0edf",
    "khmer": "\u1780-\u17d3",
    "myanmar": "\u1000-\u103f\u1050-\u109d\uaa60-\uaa7f",
    "tibetan": "\u0f00-\u0fbc",
}
"""Letters and marks of each script, as a class of a regular expression."""

CHARACTERS_PER_WORD = {"han": 1.7, "kana": 2.7, "thai": 4.5, "lao": 4.5, "khmer": 5.5, "myanmar": 5.5, "tibetan": 5.5}
"""Characters of a script that count as one word of a language with spaces; rounded, as cleaning.max_ratio is wide."""

RATIO_ALLOWANCE = 3
"""Words that are added to both sides of a ratio, so that short texts may differ by a few."""

_SCRIPTS = {name: re.compile(f"[{characters}]") for name, characters in _RANGES.items()}
_UNSPACED = re.compile(f"[{''.join(_RANGES[name] for name in CHARACTERS_PER_WORD)}]")
_LETTERS = re.compile(r"[^\W\d_]")
_SHARE = 0.3
"""Share of the letters from which on a script decides; a word of Latin letters has more of them than one of Han."""
_KANA_SHARE = 0.1
"""Share of kana in Han and kana from which on a text is Japanese."""


def count_words(text: str) -> float:
    """Words of a text: white-space separated ones. Where there are letters of a script without spaces, its characters
    divided by ``CHARACTERS_PER_WORD``, and the words between them."""
    if not _UNSPACED.search(text):
        return len(text.split())
    between = len(re.findall(r"\w+", _UNSPACED.sub(" ", text)))
    return between + sum(len(_SCRIPTS[name].findall(text)) / size for name, size in CHARACTERS_PER_WORD.items())


def length_ratio(one: float, other: float) -> float:
    """By what factor two numbers of words differ, after ``RATIO_ALLOWANCE`` is added to each."""
    shorter, longer = sorted((one + RATIO_ALLOWANCE, other + RATIO_ALLOWANCE))
    return longer / shorter


def writing_of(texts: Iterable[str]) -> str:
    """How a language is written, by the shares of scripts in its letters: chinese, japanese, thai, lao, khmer, myanmar,
    tibetan, or spaced."""
    letters, counts = 0, Counter[str]()
    for text in texts:
        letters += len(_LETTERS.findall(text))
        if _UNSPACED.search(text):
            counts.update({name: len(script.findall(text)) for name, script in _SCRIPTS.items()})
    least = _SHARE * max(letters, 1)
    japanese = counts["han"] + counts["kana"]
    if japanese >= least:
        return "japanese" if counts["kana"] >= _KANA_SHARE * japanese else "chinese"
    return next((name for name in CHARACTERS_PER_WORD if counts[name] >= least), "spaced")


def is_unspaced(text: str) -> bool:
    """Whether more than half of the letters are of a script without spaces between words."""
    unspaced = len(_UNSPACED.findall(text))
    return bool(unspaced) and 2 * unspaced > unspaced + len(_LETTERS.findall(_UNSPACED.sub("", text)))
