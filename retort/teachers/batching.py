"""Batches of questions of similar length, for models that decode several at once; and those that fit no model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from retort.data.lengths import similar_rows
from retort.teachers.base import LENGTH, Answer, Output, Question

log = logging.getLogger(__name__)

Tokens = Sequence[object]
GROUP = 4096
"""Questions that are sorted by length together; answers come group by group."""


def batches(
    questions: Sequence[Question], tokens: Sequence[Tokens], batch_tokens: int
) -> Iterator[tuple[list[Question], list[Tokens]]]:
    """Questions with their tokens, in batches of at most ``batch_tokens`` padded tokens, or one question."""
    for start in range(0, len(questions), GROUP):
        lengths = [len(source) for source in tokens[start : start + GROUP]]
        for rows in similar_rows(lengths, batch_tokens):
            yield [questions[start + row] for row in rows], [tokens[start + row] for row in rows]


def no_room(question: Question, tokens: Tokens, outputs: int, limit: str) -> Answer:
    """The answer to a question that is longer than the model: so many outputs, empty and cut, which train nothing.

    ``limit``: what the model has room for, for the log.
    """
    log.warning(
        "source %d, %r: its %d tokens do not fit the model (%s); its output is empty, and trains nothing",
        question.id, question.source[:80], len(tokens), limit,
    )  # fmt: skip
    return Answer(question, [Output("", LENGTH)] * outputs)
