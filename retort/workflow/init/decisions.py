"""Splits, vocabulary, model size and updates that suit a text and a preset."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from retort.config import Carve, Model
from retort.data.vocabulary import Vocabulary
from retort.data.vocabulary_training import possible_vocabulary
from retort.errors import RetortError
from retort.workflow.init.presets import Preset, Student
from retort.workflow.init.statistics import FITTING_SHARE, LIMITS, Statistics

LONGEST_MODEL = 1024
"""Tokens of the longest text that a model reads unless one asks for more."""
USUAL_LENGTH: int = Model.model_fields["max_length"].default
FEWEST_HELD_OUT, MOST_HELD_OUT = 50, 2500
"""Pairs of valid, and of test."""
USUAL_COMPONENT: int = Carve.model_fields["largest_component"].default
UPDATES_PER_EPOCH = 50
"""Fewer, and batches are smaller, down to ``SMALLEST_BATCH`` tokens: a small text needs the updates."""
SMALLEST_BATCH = 1024
LARGEST_VOCABULARY = 16_000
TRIED_LETTERS = 5_000_000
"""Of a sample: enough for the largest vocabulary, and some seconds of sentencepiece."""
TRIED_SHARE = 0.95
"""Of the share that is trained on: another sample may be poorer."""
ENCODED_PAIRS = 2000
"""Of a sample: enough for lengths in tokens."""

MOST_SLOTS = 8
"""The most slots per source token."""

MODEL_SIZES = (
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
class Decisions:
    """A run that suits a text."""

    held_out: int
    """Pairs of valid, and of test."""
    largest_component: int
    """Pairs of the largest component that may be held out."""
    vocabulary: int
    joint: bool
    model: dict[str, Any]
    learning_rate: float
    batch_tokens: int
    line_tokens: tuple[int, int]
    """Of a mean line of each side that is trained on."""
    updates: int
    students: tuple[Student, ...]
    slots: float
    """Per source token, that targets need."""
    ngrams: bool
    cleaning: dict[str, Any]
    """Rules that differ from the usual ones."""
    notes: tuple[str, ...] = ()
    """What a person should know of these decisions."""


def decide(statistics: Statistics, preset: Preset) -> Decisions:
    """Splits, vocabulary, model size and updates by the size of the text and what is wanted. Raises RetortError."""
    held_out, largest_component = _split(statistics)
    size, joint, vocabulary = _vocabulary(statistics, held_out)
    step = next(number for number, (pairs, _, _) in enumerate(MODEL_SIZES) if statistics.different <= pairs)
    _, model, learning_rate = MODEL_SIZES[min(step + preset.larger, len(MODEL_SIZES) - 1)]
    tokens = _tokens(statistics, vocabulary)
    room = float(np.quantile(tokens.max(axis=1), FITTING_SHARE))
    if room > USUAL_LENGTH or "too_long" in statistics.unusual:
        room = 1 << math.ceil(math.log2(max(room, USUAL_LENGTH)))
        model = {**model, "max_length": min(room, LONGEST_MODEL), "truncate_sources": True}
    trained, notes = _trained(tokens, model)
    source_tokens, target_tokens = map(float, trained.mean(axis=0))
    longest = max(source_tokens, target_tokens) * sum(lengths.pairs for lengths in statistics.kept)
    batch_tokens = min(preset.batch_tokens, max(SMALLEST_BATCH, _power_of_two_below(longest / UPDATES_PER_EPOCH)))
    updates = max(preset.least_updates, math.ceil(preset.epochs * longest / batch_tokens))
    if statistics.target_ratio > MOST_SLOTS:
        notes.append(
            f"over {1 - FITTING_SHARE:.0%} of the targets are more than {MOST_SLOTS} times as long as their sources: "
            f"one-pass students cannot learn those"
        )
    return Decisions(
        held_out=held_out,
        largest_component=largest_component,
        vocabulary=size,
        joint=joint,
        model=model,
        learning_rate=learning_rate,
        batch_tokens=batch_tokens,
        line_tokens=(math.ceil(source_tokens), math.ceil(target_tokens)),
        updates=updates,
        students=preset.students,
        slots=min(statistics.target_ratio, MOST_SLOTS),
        ngrams=preset.ngrams,
        cleaning={LIMITS[reason].key: None for reason in statistics.unusual},
        notes=tuple(notes),
    )


def _split(statistics: Statistics) -> tuple[int, int]:
    """Pairs of valid, and of test, and the largest component that may be held out.

    Where many pairs share a side, larger components are held out, or else fewer pairs. Raises RetortError if that does
    not do.
    """
    wanted = min(MOST_HELD_OUT, max(FEWEST_HELD_OUT, statistics.different // 50))
    sizes = np.sort(statistics.components)
    possible = {}
    for largest in (USUAL_COMPONENT, *map(int, np.unique(sizes[(sizes > USUAL_COMPONENT) & (sizes <= wanted)]))):
        small = sizes[sizes <= largest]
        # each of the two sets can end with the largest of them where one pair was missing
        possible[largest] = int(small.sum()) // 2 - int(small.max(initial=0))
        if possible[largest] >= wanted:
            return wanted, largest
    largest = max(possible, key=possible.__getitem__)
    if possible[largest] < FEWEST_HELD_OUT:
        raise RetortError(
            f"{statistics.different} different pairs share their texts so widely that valid and test cannot be split "
            f"off: {sizes[-1]} belong together, each of which has a side of another; make these sets yourself, and "
            f"name them in a configuration as corpus.valid and corpus.tests"
        )
    return possible[largest], largest


def _vocabulary(statistics: Statistics, held_out: int) -> tuple[int, bool, tuple[bytes, bytes]]:
    """Its size, whether both sides share it, and a model of each side like those that will be made.

    It has room for the letters, and no more pieces than can be made of the share of a sample that is trained on.
    """
    share = TRIED_SHARE * max(0.5, 1 - 2 * held_out / max(1, statistics.different))
    sample = [pair.texts for n, pair in enumerate(statistics.kept_sample) if int((n + 1) * share) > int(n * share)]
    sample = sample[:: 1 + sum(map(len, chain.from_iterable(sample))) // TRIED_LETTERS]
    wanted = int(8 * math.sqrt(sum(statistics.words))) // 100 * 100

    def possible(least: int, *sides: int) -> tuple[int, bytes]:
        text = (pair[side] for pair in sample for side in sides)
        return possible_vocabulary(text, min(max(wanted, least), LARGEST_VOCABULARY))

    if statistics.script(0) != statistics.script(1):
        least = max(len(letters) for letters in statistics.letters) * 5 // 4 + 50
        (source_size, source), (target_size, target) = (possible(least, side) for side in (0, 1))
        if min(source_size, target_size) >= least:
            return min(source_size, target_size), False, (source, target)
    letters = statistics.letters[0].keys() | statistics.letters[1].keys()
    size, model = possible(len(letters) * 5 // 4 + 50, 0, 1)
    return size, True, (model, model)


def _tokens(statistics: Statistics, models: tuple[bytes, bytes]) -> np.ndarray:
    """Tokens of both sides of pairs that are trained on, eos included: [pairs, 2]. What a sample lacks of a long text
    counts like what it has; letters are tokens where there is no model."""
    sample = statistics.kept_sample
    sample = sample[:: 1 + len(sample) // ENCODED_PAIRS]
    if not sample or not all(models):
        return np.array([pair.letters for pair in sample] or [[0, 0]]) + 1
    vocabulary, letters = Vocabulary(*models), np.array([pair.letters for pair in sample])
    texts = [[pair.texts[side] for pair in sample] for side in (0, 1)]
    encoded = zip(vocabulary.encode_source(texts[0]), vocabulary.encode_target(texts[1]), strict=True)
    read = np.array([[len(text) for text in pair.texts] for pair in sample])
    return np.array([[len(source), len(target)] for source, target in encoded]) * letters / read + 1


def _trained(tokens: np.ndarray, model: dict[str, Any]) -> tuple[np.ndarray, list[str]]:
    """``tokens`` of the pairs that fit into a model, their sources cut where it does so; and notes on the others."""
    most, notes = model.get("max_length", USUAL_LENGTH), []
    if model.get("truncate_sources") and (cut := (tokens[:, 0] > most).mean()):
        notes.append(f"{cut:.1%} of the sources have more than {most:,} tokens, and are cut")
        tokens = np.stack([np.minimum(tokens[:, 0], most), tokens[:, 1]], axis=1)
    fits = (tokens <= most).all(axis=1)
    if not fits.all():
        notes.append(
            f"{1 - fits.mean():.1%} of the pairs have a text of more than {most:,} tokens, and train nothing; a larger "
            f"model.max_length needs more memory"
        )
    return tokens[fits] if fits.any() else np.minimum(tokens, most), notes


def _power_of_two_below(value: float) -> int:
    return 1 << max(0, math.floor(math.log2(max(value, 1))))


def model_of(decisions: Decisions) -> Model:
    """The model that is decided on."""
    return Model.model_validate({**decisions.model, "tied": "all" if decisions.joint else "output"})
