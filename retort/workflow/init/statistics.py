"""What parallel text looks like: which files and columns hold it, and how much of what it has."""

from __future__ import annotations

import json
import math
import random
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from retort.config import Cleaning, TextPair, TextSource
from retort.corpus.carving import components_of, sharing_hash
from retort.corpus.cleaning import KEPT, length_verdict, text_hash
from retort.corpus.sources import TextReader, locate, read_pairs, readers
from retort.data.appearance import is_column_name, side_named
from retort.data.files import no_file
from retort.data.writing import count_words
from retort.errors import RetortError

FIRST_LINES = 100
"""First lines that say how a file is laid out."""
MEANT_SHARE = 0.1
"""Share of a text above which what cleaning would drop is what the text is like."""
FITTING_SHARE = 0.98
"""Share of the pairs whose target is to fit into the decoder's slots."""
SAMPLED_PAIRS, SAMPLED_LETTERS = 20_000, 2000
"""Pairs of which the vocabulary's size is tried, and how much of each text."""
LEAST_PAIRS = 200
"""Pairs below which there is nothing to train on, validate with and test on."""


@dataclass(frozen=True)
class Limit:
    """One of the usual limits on lengths alone."""

    key: str
    rules: Cleaning

    def allows(self, source: str, target: str) -> bool:
        """Whether it keeps a pair."""
        return length_verdict(source, target, self.rules) == KEPT


LIMITS = {
    "too_long": Limit("max_words", Cleaning(max_ratio=None)),
    "ratio": Limit("max_ratio", Cleaning(max_words=None)),
}
"""By the reason that cleaning gives."""


@dataclass
class Lengths:
    """How long some of the pairs are."""

    pairs: int = 0
    words: list[int] = field(default_factory=lambda: [0, 0])
    ratios: list[Counter[float]] = field(default_factory=lambda: [Counter(), Counter()])
    """Pairs by the target's length over the source's, in quarters rounded up: in characters, and in words."""


@dataclass(frozen=True)
class Drawn:
    """A pair of the sample."""

    texts: list[str]
    """The beginnings of its texts."""
    letters: list[int]
    """Of the whole texts."""
    reasons: frozenset[str]
    """For which the usual cleaning drops it for its lengths."""


@dataclass
class Statistics:
    """What was seen of the text."""

    pairs: int = 0
    empty: int = 0
    repeated: int = 0
    lengths: defaultdict[frozenset[str], Lengths] = field(default_factory=lambda: defaultdict(Lengths))
    """By the reasons for which the usual cleaning drops pairs for their lengths; none: it keeps them."""
    longest: list[int] = field(default_factory=lambda: [0, 0])
    """Words of the longest line of each side."""
    letters: list[Counter[str]] = field(default_factory=lambda: [Counter(), Counter()])
    sample: list[Drawn] = field(default_factory=list)
    """Some of the pairs, drawn at random."""
    distinct: list[set[int]] = field(default_factory=lambda: [set(), set()])
    """Hashes of different texts of each side, no more than are needed."""
    _sharing: tuple[array[int], array[int]] = field(default_factory=lambda: (array("Q"), array("Q")))
    """By side, what the pairs that can be held out share: ``sharing_hash``."""
    _random: random.Random = field(default_factory=lambda: random.Random(0))

    def add(self, sides: Sequence[str], seen: set[int]) -> None:
        """Count one pair. Of those that are ``seen`` already only their number counts, as cleaning drops them."""
        self.pairs += 1
        self.empty += not all(sides)
        key = text_hash(*sides)
        if all(sides) and key in seen:
            self.repeated += 1
            return
        seen.add(key)
        if all(sides):
            for keys, text in zip(self._sharing, sides, strict=True):
                keys.append(sharing_hash(text))
        counts = [round(count_words(text)) for text in sides]
        reasons = [reason for reason, limit in LIMITS.items() if all(sides) and not limit.allows(*sides)]
        lengths = self.lengths[frozenset(reasons)]
        lengths.pairs += 1
        self._draw(Drawn([text[:SAMPLED_LETTERS] for text in sides], list(map(len, sides)), frozenset(reasons)))
        if all(counts):
            for ratios, (source, target) in zip(lengths.ratios, (map(len, sides), counts), strict=True):
                ratios[math.ceil(4 * target / source) / 4] += 1
        for side, (text, count) in enumerate(zip(sides, counts, strict=True)):
            lengths.words[side] += count
            self.longest[side] = max(self.longest[side], count)
            self.letters[side].update(text)
            if len(self.distinct[side]) < LEAST_PAIRS:
                self.distinct[side].add(hash(text))

    def _draw(self, pair: Drawn) -> None:
        if len(self.sample) < SAMPLED_PAIRS:
            self.sample.append(pair)
        elif (place := self._random.randrange(self.pairs - self.repeated)) < SAMPLED_PAIRS:
            self.sample[place] = pair

    def script(self, side: int) -> str:
        """The writing of most letters of a side, such as Latin."""
        scripts: Counter[str] = Counter()
        for letter, count in self.letters[side].items():
            if letter.isalpha():
                scripts[unicodedata.name(letter, "unknown").split()[0].capitalize()] += count
        return scripts.most_common(1)[0][0] if scripts else "no letters"

    @property
    def different(self) -> int:
        """Pairs that have both sides and repeat none: those that can be held out."""
        return self.pairs - self.repeated - self.empty

    @property
    def components(self) -> np.ndarray:
        """Pairs of each component of those that can be held out: a component goes to one split as a whole."""
        return np.bincount(components_of([np.frombuffer(keys, np.uint64) for keys in self._sharing]))

    @property
    def unusual(self) -> tuple[str, ...]:
        """Reasons for which the usual cleaning would drop more than a tenth of the pairs: the text is meant so."""
        counts: Counter[str] = Counter()
        for reasons, lengths in self.lengths.items():
            counts.update(dict.fromkeys(reasons, lengths.pairs))
        return tuple(reason for reason in LIMITS if counts[reason] > MEANT_SHARE * (self.pairs - self.repeated))

    @property
    def kept(self) -> list[Lengths]:
        """Of the pairs that are trained on: a damaged line may be longer than all others together."""
        return [lengths for reasons, lengths in self.lengths.items() if reasons.issubset(self.unusual)]

    @property
    def kept_sample(self) -> list[Drawn]:
        """The pairs of the sample that are trained on."""
        return [pair for pair in self.sample if all(pair.texts) and pair.reasons.issubset(self.unusual)]

    @property
    def words(self) -> list[int]:
        """Words of each side of these."""
        return [sum(lengths.words[side] for lengths in self.kept) for side in (0, 1)]

    @property
    def mean_words(self) -> list[float]:
        """Words per line of these."""
        pairs = sum(lengths.pairs for lengths in self.kept)
        return [words / max(pairs, 1) for words in self.words]

    @property
    def target_ratio(self) -> float:
        """The target's length over the source's, in quarters, that ``FITTING_SHARE`` of these do not exceed: of their
        characters where both sides have the same letters, else of their words. 1 if nothing was seen."""
        unit = 0 if self.script(0) == self.script(1) else 1
        ratios = sum((lengths.ratios[unit] for lengths in self.kept), Counter[float]())
        fitting, least = 0, FITTING_SHARE * ratios.total()
        for ratio, count in sorted(ratios.items()):
            fitting += count
            if fitting >= least:
                return ratio
        return 1.0

    def lines(self) -> list[str]:
        """What was seen, for a person."""
        scripts, (source, target) = [self.script(0), self.script(1)], self.mean_words
        return [
            f"{self.pairs:,} pairs; {self.repeated:,} repeated, {self.empty:,} with an empty side",
            f"source: {source:.1f} words per line, {self.longest[0]} at most, {scripts[0]} letters",
            f"target: {target:.1f} words per line, {self.longest[1]} at most, {scripts[1]} letters",
        ]


def sides_of(paths: Sequence[Path]) -> dict[str, Any]:
    """The sides of the pair in one or two files, as a section of the configuration.

    One file has two tab-separated columns, or JSON objects of which two values are texts. Raises RetortError.
    """
    for path in paths:
        if not path.is_file():
            raise RetortError(f"{path}: {no_file(path)}; expected parallel text: two files, one TSV, or JSON lines")
        if not str(path).isprintable() or "{" in str(path):
            raise RetortError(f"{str(path)!r}: a configuration cannot hold this name of a file; rename it")
    location = str(paths[0])
    if len(paths) == 2:
        if paths[0].samefile(paths[1]):
            raise RetortError(f"{location}: named as both sides; expected two files, or one that holds both sides")
        for path in paths:
            _check_holds_texts(path)
        return {"source": location, "target": str(paths[1])}
    lines = _first_lines(location)
    if not lines:
        raise RetortError(f"{location}: has no text; expected parallel text: two files, one TSV, or JSON lines")
    # a line with one empty side has no tab at its ends
    first = next((line for line in lines if "\t" in line), lines[0])
    # a field may be null in some lines
    found = [_text_fields(first), *map(_text_fields, lines)]
    fields = next((fields for fields in found if len(fields) > 1), max(found, key=len))
    named = [field for field in fields if field != "id" and is_column_name(field.rpartition(".")[2])]
    fields = named if len(named) == 2 else fields
    if len(fields) > 2:
        raise RetortError(
            f"{location}: a line has the texts {', '.join(map(repr, fields[:9]))}; expected two, source and target: "
            f"leave out the others, or name fields such as en and de"
        )
    if len(fields) == 2:
        fields.sort(key=_place)
        sides: list[dict[str, Any]] = [{"location": location, "layout": "json", "field": name} for name in fields]
    elif first.count("\t") > 1:
        raise RetortError(
            f"{location}: has {first.count(chr(9)) + 1} tab-separated columns; expected two, source and target: leave "
            f"out the others, or name theirs by column in a configuration of your own (docs/corpus.md)"
        )
    elif "\t" in first:
        sides = [{"location": location, "column": column} for column in (0, 1)]
    else:
        only = f" (only {fields[0]!r})" if fields else ""
        advice = (
            "give a second file with the translations; a text without any needs a teacher "
            "(docs/teachers.md#text-without-references)"
        )
        if location.lower().endswith(".csv"):
            advice = "CSV is not read: write it as tab-separated text, or as JSON lines"
        elif fields:
            advice += "; where they are a list of texts, write a configuration of your own (docs/corpus.md)"
        raise RetortError(
            f"{location}: no line of the first {len(lines)} has a tab or two texts in a JSON object{only}; expected "
            f"parallel text: {advice}"
        )
    return {"source": sides[0], "target": sides[1]}


def _check_holds_texts(path: Path) -> None:
    """Raises RetortError where one of two files has more on its lines than a text."""
    lines = _first_lines(str(path))
    if fields := _text_fields(next(iter(lines), "")):
        raise RetortError(
            f"{path}: line 1 is a JSON object (with {', '.join(map(repr, fields[:9]))}), and of two files each "
            f"line is a text; give a JSON lines file with both sides alone, or write its texts into a file of "
            f"lines; where JSON itself is the text, name the files in a configuration of your own"
        )
    tabbed = sum("\t" in line for line in lines)
    if tabbed > len(lines) / 2:
        raise RetortError(
            f"{path}: {tabbed} of the first {len(lines)} lines have a tab, and of two files each line is a text; write "
            f"the column of the texts into a file of its own (cut -f 2), or name it in a configuration of your own, "
            f"such as {{location: {path}, column: 1}} (docs/corpus.md)"
        )


def _first_lines(location: str) -> list[str]:
    """The first lines of a file that are not empty."""
    return list(islice(filter(None, TextReader(locate(TextSource(location=location), None, Path()))), FIRST_LINES))


def _place(field: str) -> float:
    """0 for a field that is called as a source, 1 as a target, between them for other names."""
    side = side_named(field.rpartition(".")[2])
    return 0.5 if side is None else side


def which_is_which(train: dict[str, Any]) -> list[str]:
    """Which parts of one file are source and target, for a person; nothing for two files."""
    sides = [train["source"], train["target"]]
    if "column" in sides[0]:
        return ["source: the first column; target: the second"]
    if "field" not in sides[0]:
        return []
    source, target = (side["field"] for side in sides)
    chosen = "in the order of the file; to swap them, call them source and target"
    if _place(source) != _place(target):
        chosen = "by their names"
    return [f"source: field {source!r}; target: field {target!r} ({chosen})"]


def _text_fields(line: str) -> list[str]:
    """Paths of the texts in a JSON object."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return []
    fields: list[str] = []
    for key, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, str):
            fields.append(key)
        elif isinstance(inner, dict) and "." not in key:
            fields += [f"{key}.{name}" for name, text in inner.items() if isinstance(text, str) and "." not in name]
    return [field for field in fields if field.isprintable()]


def statistics_of(train: dict[str, Any]) -> Statistics:
    """Read the whole text once. Raises RetortError for what is no parallel text, and for too little of it."""
    text, seen = Statistics(), set[int]()
    for source, targets in read_pairs(readers(TextPair.model_validate(train), None, Path())):
        text.add([source, targets[0]], seen)
    if text.different < LEAST_PAIRS:
        raise RetortError(
            f"{text.pairs} pairs, {text.repeated} of them repeated and {text.empty} with an empty side, are too few to "
            f"train on; expected {LEAST_PAIRS} or more others"
        )
    for side, texts in zip(("sources", "targets"), text.distinct, strict=True):
        if len(texts) < LEAST_PAIRS:
            raise RetortError(
                f"{text.pairs} pairs with {len(texts)} different {side} cannot be split, as no text may be on both "
                f"sides of a split; expected {LEAST_PAIRS} or more"
            )
    return text
