"""``retort init``: looks at parallel text, decides on a run, and writes a short commented configuration."""

from __future__ import annotations

import json
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from retort.config import Cleaning, Model, TextPair, TextSource
from retort.config.base import Name
from retort.config.load import load_config
from retort.corpus.appearance import is_column_name
from retort.corpus.cleaning import KEPT, length_verdict
from retort.corpus.sources import TextReader, locate, read_pairs, readers
from retort.data.files import no_file, write_bytes
from retort.data.writing import words
from retort.errors import RetortError

LONGEST_NAME = 100
LOOKED_AT = 100
"""First lines that say how a file is laid out."""
MEANT = 0.1
"""Share of a text above which what cleaning would drop is what the text is like."""
LONGEST_MODEL = 1024
"""Tokens of the longest source that a model reads unless one asks for more."""
LEAST_PAIRS = 200
"""Pairs below which there is nothing to train on, validate with and test on."""
LARGEST_HELD_OUT = 2500
UPDATES_PER_EPOCH = 50
"""Fewer, and batches are smaller, down to ``SMALLEST_BATCH`` tokens: a small text needs the updates."""
SMALLEST_BATCH = 1024
TOKENS_PER_WORD = 1.5
"""A guess; the vocabulary is made later."""

SHAPES = (
    (20_000, {"d_model": 128, "heads": 4, "ffn": 256, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.2}, 0.004),
    (
        500_000,
        {"d_model": 256, "heads": 4, "ffn": 1024, "encoder_layers": 4, "decoder_layers": 4, "dropout": 0.1},
        0.002,
    ),
    (
        math.inf,
        {"d_model": 512, "heads": 8, "ffn": 2048, "encoder_layers": 6, "decoder_layers": 6, "dropout": 0.1},
        0.001,
    ),
)
"""Largest number of pairs, the model that suits so many, and the learning rate that suits the model."""


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


@dataclass(frozen=True)
class Student:
    """A student that a preset can have."""

    name: str
    why: str
    objective: str
    searches: Mapping[str, Any] = field(default_factory=dict)
    """The plain one, which chooses checkpoints, and ``ngrams``. Empty: the usual ones."""
    deep_shallow: bool = False
    """Twice the encoder layers of the others, and one decoder layer."""

    def section(self, model: Mapping[str, Any], ngrams: bool) -> dict[str, Any]:
        """Its part of a configuration with this model, with a search by n-grams or without."""
        layers = {"encoder_layers": 2 * model["encoder_layers"], "decoder_layers": 1}
        searches = {"searches": dict(self.searches), "tune": {"ngrams": TRIED}}
        return {
            "objective": self.objective,
            **({"model": layers} if self.deep_shallow else {}),
            "data": "distilled",
            "training": {"warm_start": "teacher_encoder"},
            **(searches if ngrams and self.searches else {}),
        }


TRIED = {"lm_weight": [0.2, 0.4], "token_bonus": [0.5, 1, 2, 3]}
"""Values of a search by n-grams that are tried on the validation set."""
OF_SLOTS = {"collapse": {"kind": "ctc_collapse"}, "ngrams": {"kind": "ctc_beam"}}
OF_GRAPHS = {"lookahead": {"kind": "dag_path"}, "ngrams": {"kind": "dag_beam"}}
CTC = Student("ctc", "One pass, aligned by CTC: the fastest.", "ctc", OF_SLOTS)
GLAT_CTC = Student("glat-ctc", "The same, shown part of the target in training.", "glat_ctc", OF_SLOTS)
DAG = Student("dag", "One pass over a graph of words: closer to the teacher.", "dag", OF_GRAPHS)
DEEP_SHALLOW = Student(
    "deep-shallow", "The autoregressive rival: a deep encoder, one decoder layer.", "autoregressive", deep_shallow=True
)


@dataclass(frozen=True)
class Preset:
    """What is wanted of a run."""

    name: str
    epochs: int
    least_updates: int
    """Of a small text, whose epochs are short: 4,000 captions gain 4 BLEU by 2,000 updates instead of 1,000."""
    students: tuple[Student, ...]
    larger: int = 0
    """Steps to a larger model."""
    batch_tokens: int = 2048
    ngrams: bool = True
    """Whether one-pass students search by n-grams of the training targets, too."""


PRESETS = (
    Preset("usual", epochs=15, least_updates=1500, students=(CTC, DEEP_SHALLOW)),
    Preset("quick", epochs=6, least_updates=300, students=(CTC,), ngrams=False),
    Preset("quality", epochs=40, least_updates=4000, students=(CTC, GLAT_CTC, DAG, DEEP_SHALLOW)),
    Preset("gpu", epochs=40, least_updates=4000, students=(CTC, DAG, DEEP_SHALLOW), larger=1, batch_tokens=16384),
)


def preset_named(name: str) -> Preset:
    """The preset of this name."""
    return next(preset for preset in PRESETS if preset.name == name)


@dataclass
class Look:
    """What was seen of the text."""

    pairs: int = 0
    empty: int = 0
    repeated: int = 0
    words: list[int] = field(default_factory=lambda: [0, 0])
    longest: list[int] = field(default_factory=lambda: [0, 0])
    """Words of the longest line of each side."""
    letters: list[Counter[str]] = field(default_factory=lambda: [Counter(), Counter()])
    vocabulary: list[Counter[str]] = field(default_factory=lambda: [Counter(), Counter()])
    dropped: Counter[str] = field(default_factory=Counter)
    """Pairs that the usual cleaning drops for their lengths, by the reason."""
    distinct: list[set[int]] = field(default_factory=lambda: [set(), set()])
    """Hashes of different texts of each side, no more than are needed."""

    def add(self, sides: Sequence[str], seen: set[int]) -> None:
        """Count one pair."""
        self.pairs += 1
        self.empty += not all(sides)
        key = hash(tuple(sides))
        self.repeated += key in seen
        seen.add(key)
        for side, text in enumerate(sides):
            count = round(words(text))
            self.words[side] += count
            self.longest[side] = max(self.longest[side], count)
            self.letters[side].update(text)
            self.vocabulary[side].update(text.split())
            if len(self.distinct[side]) < LEAST_PAIRS:
                self.distinct[side].add(hash(text))
        if all(sides):
            self.dropped.update(reason for reason, limit in LIMITS.items() if not limit.allows(*sides))

    def script(self, side: int) -> str:
        """The writing of most letters of a side, such as Latin."""
        scripts: Counter[str] = Counter()
        for letter, count in self.letters[side].items():
            if letter.isalpha():
                scripts[unicodedata.name(letter, "unknown").split()[0].capitalize()] += count
        return scripts.most_common(1)[0][0] if scripts else "no letters"

    @property
    def unusual(self) -> tuple[str, ...]:
        """Reasons for which the usual cleaning would drop more than a tenth of the pairs: the text is meant so."""
        return tuple(reason for reason, count in self.dropped.items() if count > MEANT * self.pairs)

    @property
    def mean_words(self) -> list[float]:
        return [words / max(self.pairs, 1) for words in self.words]

    def lines(self) -> list[str]:
        """What was seen, for a person."""
        scripts, (source, target) = [self.script(0), self.script(1)], self.mean_words
        return [
            f"{self.pairs:,} pairs; {self.repeated:,} repeated, {self.empty:,} with an empty side",
            f"source: {source:.1f} words per line, {self.longest[0]} at most, {scripts[0]} letters",
            f"target: {target:.1f} words per line, {self.longest[1]} at most, {scripts[1]} letters",
        ]


def texts_of(paths: Sequence[Path]) -> dict[str, Any]:
    """The sides of the pair in one or two files, as a section of the configuration.

    One file has two tab-separated columns, or JSON objects of which two values are texts. Raises RetortError.
    """
    for path in paths:
        if not path.is_file():
            raise RetortError(f"{path}: {no_file(path)}; expected parallel text: two files, one TSV, or JSON lines")
        if not str(path).isprintable() or "{" in str(path):
            raise RetortError(f"{str(path)!r}: a configuration cannot hold this name of a file; rename it")
    if len(paths) == 2:
        return {"source": str(paths[0]), "target": str(paths[1])}
    location = str(paths[0])
    lines = list(islice(filter(None, TextReader(locate(TextSource(location=location), None, Path()))), LOOKED_AT))
    # a line with one empty side has no tab at its ends
    first = next((line for line in lines if "\t" in line), lines[0] if lines else "")
    fields = _text_fields(first)
    named = [field for field in fields if field != "id" and is_column_name(field.rpartition(".")[2])]
    fields = named if len(named) == 2 else fields
    if len(fields) > 2:
        raise RetortError(
            f"{location}: line 1 has the texts {', '.join(map(repr, fields[:9]))}; expected two, source and target: "
            f"leave out the others, or name fields such as en and de"
        )
    if len(fields) == 2:
        sides: list[dict[str, Any]] = [{"location": location, "layout": "json", "field": name} for name in fields]
    elif first.count("\t") > 1:
        raise RetortError(
            f"{location}: has {first.count(chr(9)) + 1} tab-separated columns; expected two, source and target: leave "
            f"out the others"
        )
    elif "\t" in first:
        sides = [{"location": location, "column": column} for column in (0, 1)]
    else:
        raise RetortError(
            f"{location}: line 1 has neither a tab nor two texts in a JSON object; expected parallel text: give a "
            f"second file with the translations"
        )
    return {"source": sides[0], "target": sides[1]}


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


def run_name(file: Path) -> str:
    """The name of a run that is made from a file, as near to its own as the rules for names allow."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", file.name.split(".")[0]).strip("._-")
    return stem[:LONGEST_NAME] or "run"


def check_name(name: str) -> None:
    """Raises RetortError for what cannot name a run."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise RetortError(
            f"--name {name[:LONGEST_NAME]!r}: cannot name a run; use letters, digits, '.', '_' and '-', the first a "
            f"letter or a digit, {LONGEST_NAME} at most"
        ) from None


def look_at(train: dict[str, Any]) -> Look:
    """Read the whole text once. Raises RetortError for what is no parallel text, and for too little of it."""
    look, seen = Look(), set[int]()
    for source, targets in read_pairs(readers(TextPair.model_validate(train), None, Path())):
        look.add([source, targets[0]], seen)
    if look.pairs - look.repeated - look.empty < LEAST_PAIRS:
        raise RetortError(
            f"{look.pairs} pairs, {look.repeated} of them repeated and {look.empty} with an empty side, are too few to "
            f"train on; expected {LEAST_PAIRS} or more others"
        )
    for side, texts in zip(("sources", "targets"), look.distinct, strict=True):
        if len(texts) < LEAST_PAIRS:
            raise RetortError(
                f"{look.pairs} pairs with {len(texts)} different {side} cannot be split, as no text may be on both "
                f"sides of a split; expected {LEAST_PAIRS} or more"
            )
    return look


@dataclass(frozen=True)
class Decisions:
    """A run that suits a text."""

    held_out: int
    vocabulary: int
    joint: bool
    model: dict[str, Any]
    learning_rate: float
    batch_tokens: int
    updates: int
    students: tuple[Student, ...]
    ngrams: bool
    cleaning: dict[str, Any]
    """Rules that differ from the usual ones."""


def decide(look: Look, preset: Preset) -> Decisions:
    """Splits, vocabulary, model size and updates by the size of the text and what is wanted."""
    held_out = min(LARGEST_HELD_OUT, max(50, look.pairs // 50))
    size, joint = _vocabulary(look)
    step = next(number for number, (pairs, _, _) in enumerate(SHAPES) if look.pairs <= pairs)
    _, model, learning_rate = SHAPES[min(step + preset.larger, len(SHAPES) - 1)]
    if "too_long" in look.unusual:
        room = 2 * _power_of_two_below(TOKENS_PER_WORD * max(look.longest))
        model = {**model, "max_length": min(max(room, 256), LONGEST_MODEL), "truncate_sources": True}
    longest = TOKENS_PER_WORD * max(look.words)
    batch_tokens = min(preset.batch_tokens, max(SMALLEST_BATCH, _power_of_two_below(longest / UPDATES_PER_EPOCH)))
    updates = max(preset.least_updates, math.ceil(preset.epochs * longest / batch_tokens))
    return Decisions(
        held_out=held_out,
        vocabulary=size,
        joint=joint,
        model=model,
        learning_rate=learning_rate,
        batch_tokens=batch_tokens,
        updates=updates,
        students=preset.students,
        ngrams=preset.ngrams,
        cleaning={LIMITS[reason].key: None for reason in look.unusual},
    )


def _vocabulary(look: Look) -> tuple[int, bool]:
    """Its size, and whether both sides share it. It needs room for the letters, and has no more pieces than the words
    give."""

    def bounds(letters: int, vocabulary: Counter[str]) -> tuple[int, int]:
        repeated = sum(count > 1 for count in vocabulary.values())
        largest = max(64, (len(vocabulary) + letters) // 2, (repeated + letters) * 9 // 10)
        return letters * 5 // 4 + 50, largest

    wanted = int(8 * math.sqrt(sum(look.words))) // 100 * 100
    if look.script(0) != look.script(1):
        sides = [bounds(len(look.letters[side]), look.vocabulary[side]) for side in (0, 1)]
        least, largest = max(low for low, _ in sides), min(high for _, high in sides)
        if least <= largest:
            return min(max(wanted, least), 16_000, largest), False
    least, largest = bounds(len(look.letters[0].keys() | look.letters[1].keys()), sum(look.vocabulary, Counter()))
    return min(max(wanted, least), 16_000, largest), True


def _power_of_two_below(value: float) -> int:
    return 1 << max(0, math.floor(math.log2(max(value, 1))))


def configuration(name: str, train: dict[str, Any], look: Look, choice: Decisions, preset: str) -> str:
    """The commented YAML of a run. It loads."""
    tied = "" if choice.joint else ", tied: output"
    model = ", ".join(f"{key}: {json.dumps(value)}" for key, value in choice.model.items())
    cleaning = []
    if choice.cleaning:
        cleaning = [
            "# Of the usual limits on lengths those are off that much of this text is beyond.",
            f"cleaning: {json.dumps(choice.cleaning)}",
        ]
    text = [
        f"# Made by retort init ({preset}). Every key is described in docs/configuration.md.",
        *(f"# {line}" for line in look.lines()),
        f"name: {json.dumps(name)}",
        "corpus:",
        f"  train: {json.dumps(train, ensure_ascii=False)}",
        "  # The text has no split: 2 % each, at least 50 and at most 2,500 pairs, of which train has no side.",
        f"  carve: {{valid_pairs: {choice.held_out}, test_pairs: {choice.held_out}}}",
        *cleaning,
        "# Grows with the square root of the text; one vocabulary where both sides have the same letters.",
        f"vocabulary: {{size: {choice.vocabulary}, joint: {str(choice.joint).lower()}}}",
        f"# Suits {look.pairs:,} pairs; more data carry a larger model.",
        f"model: {{{model}{tied}}}",
        "training:",
        "  # So many updates of so many tokens go through the text some times.",
        f"  max_updates: {choice.updates}",
        f"  batch_tokens: {choice.batch_tokens}",
        f"  learning_rate: {choice.learning_rate}",
        "  warmup: 10%",
        "  schedule: cosine",
        "  validate_every: 20%",
        f"  decode_sentences: {min(200, choice.held_out)}",
        "  # Validations this far apart are too different to be averaged.",
        "  average_best: 1",
        "teacher: {objective: autoregressive}",
    ]
    if choice.ngrams:
        text += [
            "# A search by n-grams of the training targets, tuned on the validation set, takes a fraction of a",
            "# millisecond more than the plain one and comes nearer to the teacher.",
        ]
    text.append("students:")
    for student in choice.students:
        section = student.section(choice.model, choice.ngrams)
        text += [f"  # {student.why}", f"  {student.name}:"]
        text += [f"    {key}: {_flow(value)}" for key, value in section.items()]
    text.append("latency: {sentences: 50, cold_starts: 1}")
    return "\n".join(text) + "\n"


def _flow(value: Any) -> str:
    """A mapping as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    return str(value)


def written(path: Path, text: str) -> None:
    """Write a configuration that loads, where no file is. Raises RetortError, and leaves none that does not load."""
    if os.path.lexists(path):
        raise RetortError(f"{path}: is there already, and is never overwritten; name another by --output")
    write_bytes(path, text.encode())
    try:
        load_config(path, texts=True)
    except RetortError:
        path.unlink()
        raise


def shape_of(choice: Decisions) -> Model:
    """The model that is decided on."""
    return Model.model_validate({**choice.model, "tied": "all" if choice.joint else "output"})
