"""Outputs of the system that others are compared with beside another's, what differs most first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from retort.config.tokenizers import tokenizer_named
from retort.data.parquet import read_table
from retort.data.references import references_of
from retort.data.tables import CORPUS
from retort.evaluation.tokenizers import chosen_tokenizer
from retort.report.inputs import Inputs, best_outputs
from retort.report.timing import Key

LIMIT = 100
"""Sentences that are shown of a system."""


@dataclass(frozen=True)
class Pair:
    """A test sentence and both outputs; words of one that the other does not have at that place are marked."""

    id: int
    source: str
    references: list[str]
    first: Markup
    second: Markup
    difference: float
    """Share of the words of both that are not in common, in order: from 0 to 1; of the characters in a language that
    writes no spaces."""


@dataclass(frozen=True)
class SideBySide:
    """The outputs of ``second`` beside those of ``first``, both with their first seed, on the sampled test set."""

    first: Key
    second: Key
    sentences: int
    equal: int
    """Outputs that are the same."""
    pairs: list[Pair]


def side_by_side(inputs: Inputs, first: Key, second: Key, limit: int = LIMIT) -> SideBySide | None:
    """The ``limit`` sentences where two systems differ most; None without their outputs."""
    outputs = [_outputs(inputs, key) for key in (first, second)]
    if inputs.sampled_test is None or not all(outputs):
        return None
    corpus = read_table(inputs.sampled_test, CORPUS)
    tokenizer = tokenizer_named(chosen_tokenizer(inputs.config.evaluation.tokenizer, references_of(corpus)))
    split, space = (str.split, " ") if tokenizer.keeps_words else (list, "")
    common = sorted(outputs[0].keys() & outputs[1].keys())
    parts = {number: (split(outputs[0][number]), split(outputs[1][number])) for number in common}
    differing = {number: difference(*both) for number, both in parts.items()}
    shown = sorted((n for n in common if differing[n] > 0), key=lambda number: (-differing[number], number))[:limit]
    corpus = corpus.filter(pc.is_in(corpus["id"], pa.array(shown, pa.int64())))
    rows = zip(corpus["id"].to_pylist(), corpus["source"].to_pylist(), references_of(corpus), strict=True)
    given = {number: (source, references) for number, source, references in rows}
    pairs = [Pair(n, *given[n], *marked(*parts[n], space), difference=differing[n]) for n in shown]
    return SideBySide(first, second, len(common), sum(not value for value in differing.values()), pairs)


def difference(first: Sequence[str], second: Sequence[str]) -> float:
    """Share of the words or characters of both that are not in common, in order."""
    return 1 - SequenceMatcher(None, first, second, autojunk=False).ratio()


def marked(first: Sequence[str], second: Sequence[str], space: str = " ") -> tuple[Markup, Markup]:
    """Both texts, with the words or characters marked that the other one does not have there; ``space`` is between
    them."""
    sides: tuple[list[Markup], list[Markup]] = ([], [])
    for kind, a, b, c, d in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        for side, words in zip(sides, (first[a:b], second[c:d]), strict=True):
            if words:
                text = Markup("{}").format(space.join(words))
                side.append(text if kind == "equal" else Markup("<mark>{}</mark>").format(text))
    return Markup(space).join(sides[0]), Markup(space).join(sides[1])


def _outputs(inputs: Inputs, key: Key) -> dict[int, str]:
    """The outputs of the first seed on the sampled test set, by id."""
    runs = inputs.runs_in_order(run for run in inputs.translated if (run.system, run.search) == key)
    if not runs:
        return {}
    data = best_outputs(inputs.translated[runs[0]], inputs.samples_of)
    return dict(zip(data["id"].to_pylist(), data["text"].to_pylist(), strict=True))
