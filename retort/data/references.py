"""CORPUS tables with one or several references per source, or none."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from retort.data.tables import CORPUS


def corpus_table(ids: Iterable[int], sources: Iterable[str], references: Iterable[list[str]]) -> pa.Table:
    """A CORPUS table of sources with their references; the first one is the target. A source may have none."""
    references = list(references)
    columns = {
        "id": list(ids),
        "source": list(sources),
        "target": [texts[0] if texts else "" for texts in references],
        "references": [None if len(texts) == 1 else texts for texts in references],
    }
    return pa.table(columns, schema=CORPUS.schema)


def references_of(corpus: pa.Table) -> list[list[str]]:
    """All references of each row of a CORPUS table; the target is the first one. Source-only text has none."""
    rows = zip(corpus.column("target").to_pylist(), corpus.column("references").to_pylist(), strict=True)
    return [[target] if references is None else references for target, references in rows]
