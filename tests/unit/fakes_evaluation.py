"""Small tables for the tests of corpus, evaluation and report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from retort.data.parquet import write_table
from retort.data.references import corpus_table
from retort.data.runs import Run, run_of_path
from retort.data.tables import CORPUS, TRANSLATIONS


def corpus(path: Path, references: Sequence[str | list[str]], ids: Sequence[int] | None = None) -> Path:
    """Write a test set of these references, one or several a source; the source of each is its number."""
    ids = list(range(len(references)) if ids is None else ids)
    lists = [[texts] if isinstance(texts, str) else texts for texts in references]
    write_table(path, CORPUS, corpus_table(ids, [f"source {i}" for i in ids], lists))
    return path


def pairs_table(path: Path, pairs: Sequence[Sequence[str]]) -> Path:
    """Write a corpus of these pairs of texts, numbered from 0."""
    write_table(path, CORPUS, corpus_table(range(len(pairs)), [s for s, _ in pairs], [[t] for _, t in pairs]))
    return path


def translations(
    path: Path,
    texts: Sequence[str],
    ids: Sequence[int] | None = None,
    test_set: str = "test",
    ranks: Sequence[int] | None = None,
    run: Run | None = None,
) -> Path:
    """Write hypotheses of the run that the path names, or of another; the tokens are the first letters' codes."""
    count = len(texts)
    run = run or run_of_path(path) or Run("ctc", 3, "collapse")
    rows = {
        "system": [run.system] * count,
        "seed": [run.seed] * count,
        "search": [run.search] * count,
        "id": list(range(count) if ids is None else ids),
        "test_set": [test_set] * count,
        "rank": [0] * count if ranks is None else list(ranks),
        "text": list(texts),
        "tokens": [[ord(word[0]) for word in text.split()] for text in texts],
        "score": [0.0] * count,
        "truncated": [text.endswith("...") for text in texts],
        "empty": [not text for text in texts],
        "passes": [index % 2 + 1 for index in range(count)],
    }
    write_table(
        path,
        TRANSLATIONS,
        pa.table(rows | {"ended": [None] * count, "rejected": [None] * count}, schema=TRANSLATIONS.schema),
    )
    return path
