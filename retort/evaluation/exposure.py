"""Exposure bias: the effect of an output's beginning on its continuation, after Lin et al. (2020, table 1).

In training a student sees only prefixes of other texts, so it may fail after its own. The teacher completes the first
part of a student's output, too. If its completion is better than the student's, the student's continuation is at fault.
If it is worse than the teacher's unprompted output, the student's beginning is. Prefixes of the teacher's outputs and
of the references are the controls.

A greedy model that completes its own prefix reproduces its own output. If that is worth h, two equally good models
have teacher's gains of -h after the student's prefixes and h after the teacher's. So without exposure bias the first
gain less the second is -2 h, not 0. These rows do not contain h: another seed of the same system, which completes the
student's prefixes, would.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

import retort
from retort.config import Exposure
from retort.config.tokenizers import AUTO
from retort.data.references import references_of
from retort.data.vocabulary import Vocabulary
from retort.evaluation.metrics import score
from retort.evaluation.prefixes import NONE, REFERENCE, STUDENT, TEACHER
from retort.models.base import EncoderDecoder
from retort.search.decoding import translate_texts

Row = dict[str, Any]


def exposure(
    student: EncoderDecoder,
    teacher: EncoderDecoder,
    vocabulary: Vocabulary,
    corpus: pa.Table,
    options: Exposure,
    batch_tokens: int,
    metrics: Sequence[str],
    tokenizer: str = AUTO,
) -> Iterator[Row]:
    """Rows of an EXPOSURE table for one test set, without its name, system and seed.

    They score each model's unprompted outputs, and its completions of the first part of the student's outputs, of the
    teacher's, and of the first references.
    """
    models = {STUDENT: student, TEACHER: teacher}
    sources, references = corpus["source"].to_pylist(), references_of(corpus)

    def completed(name: str, prefixes: Sequence[Sequence[int]]) -> list[list[int]]:
        n_best = translate_texts(
            models[name], vocabulary, sources, search=options.search, batch_tokens=batch_tokens, prefixes=prefixes
        )
        return [hypotheses[0].tokens for hypotheses in n_best]

    def scored(row: Row, hypotheses: list[str]) -> Iterator[Row]:
        for metric in metrics:
            result = score(metric, hypotheses, references=references, tokenizer=tokenizer)
            signature = f"{result.signature}|search:{options.search.kind}|retort:{retort.__version__}"
            yield {**row, "metric": metric, "value": result.value, "signature": signature}

    alone = {name: completed(name, [[]] * len(sources)) for name in models}
    for name, outputs in alone.items():
        row = {"prefix": NONE, "share": 0.0, "completed_by": name, "given": 0.0}
        yield from scored(row, vocabulary.decode_target(outputs))
    complete_texts = {**alone, REFERENCE: vocabulary.encode_target([texts[0] for texts in references])}
    for share, origin, name in itertools.product(options.shares, complete_texts, models):
        prefixes = [tokens[: int(share * len(tokens))] for tokens in complete_texts[origin]]
        outputs = completed(name, prefixes)
        given = sum(map(len, prefixes)) / max(1, sum(map(len, outputs)))
        row = {"prefix": origin, "share": share, "completed_by": name, "given": given}
        yield from scored(row, vocabulary.decode_target(outputs))
