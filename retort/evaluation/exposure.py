"""Exposure bias: what the beginnings of outputs do to what is said after them, after Lin et al. (2020, table 1).

A student that has seen only other texts' prefixes in training may go astray after its own. If the teacher, given the
first part of a student's output, ends it better than the student does, the student's continuations are at fault; if it
ends it worse than an output of its own, the beginning is. Prefixes of the teacher's outputs and of the references are
the controls: after these, a student should do comparatively better the more it suffers from its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

import retort
from retort.config import Exposure
from retort.data.references import references_of
from retort.data.vocabulary import Vocabulary
from retort.evaluation.metrics import score
from retort.models.base import EncoderDecoder
from retort.search.decoding import translate_texts

NONE, REFERENCE = "none", "reference"
STUDENT, TEACHER = "student", "teacher"
Row = dict[str, Any]


def exposure(
    student: EncoderDecoder,
    teacher: EncoderDecoder,
    vocabulary: Vocabulary,
    corpus: pa.Table,
    options: Exposure,
    batch_tokens: int,
    metrics: Sequence[str],
) -> Iterator[Row]:
    """Of one test set, rows of an EXPOSURE table without its name, system and seed: what each model says alone, and how
    each completes the first part of the student's outputs, of the teacher's, and of the (first) references."""
    models = {STUDENT: student, TEACHER: teacher}
    sources, references = corpus["source"].to_pylist(), references_of(corpus)

    def said(name: str, prefixes: Sequence[Sequence[int]]) -> list[list[int]]:
        found = translate_texts(models[name], vocabulary, sources, options.search, batch_tokens, prefixes=prefixes)
        return [best[0].tokens for best in found]

    def scored(row: Row, hypotheses: list[str]) -> Iterator[Row]:
        for metric in metrics:
            found = score(metric, hypotheses, references)
            signature = f"{found.signature}|search:{options.search.kind}|retort:{retort.__version__}"
            yield {**row, "metric": metric, "value": found.value, "signature": signature}

    alone = {name: said(name, [[]] * len(sources)) for name in models}
    for name, outputs in alone.items():
        row = {"prefix": NONE, "share": 0.0, "completed_by": name, "given": 0.0}
        yield from scored(row, vocabulary.decode_target(outputs))
    wholes = {**alone, REFERENCE: vocabulary.encode_target([own[0] for own in references])}
    for share, giver, name in itertools.product(options.shares, wholes, models):
        prefixes = [tokens[: int(share * len(tokens))] for tokens in wholes[giver]]
        outputs = said(name, prefixes)
        given = sum(map(len, prefixes)) / max(1, sum(map(len, outputs)))
        row = {"prefix": giver, "share": share, "completed_by": name, "given": given}
        yield from scored(row, vocabulary.decode_target(outputs))
