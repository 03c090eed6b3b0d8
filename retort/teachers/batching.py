"""Batches of questions of similar length, for models that decode several at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from retort.teachers.base import Question

Tokens = Sequence[object]
GROUP = 4096
"""Questions that are sorted by length together; answers come group by group."""


def batches(
    questions: Sequence[Question], tokens: Sequence[Tokens], batch_tokens: int
) -> Iterator[tuple[list[Question], list[Tokens]]]:
    """Questions with their tokens, in batches of at most ``batch_tokens`` padded tokens, or one question."""
    for start in range(0, len(questions), GROUP):
        rows = sorted(range(start, min(start + GROUP, len(questions))), key=lambda row: len(tokens[row]))
        batch: list[int] = []
        for row in rows:
            if batch and (len(batch) + 1) * len(tokens[row]) > batch_tokens:
                yield [questions[i] for i in batch], [tokens[i] for i in batch]
                batch = []
            batch.append(row)
        yield [questions[i] for i in batch], [tokens[i] for i in batch]
