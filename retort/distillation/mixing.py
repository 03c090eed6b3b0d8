"""Text with two targets per source: the reference and, where it is usable, the teacher's translation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from sacrebleu.metrics.chrf import CHRF

from retort.data.tables import ENCODED, MIXED


def mix(raw: pa.Table, distilled: pa.Table, similarity: dict[int, float]) -> pa.Table:
    """The MIXED table of two ENCODED tables, in the order of ids, the reference first.

    ``distilled`` may lack sources. ``similarity`` compares the two targets of each source that has both, by id; NaN
    stands for none.
    """
    parts = [
        part.cast(ENCODED.schema).append_column("distilled", pa.array(np.full(part.num_rows, flag)))
        for part, flag in ((raw, False), (distilled, True))
    ]
    both = pa.concat_tables(parts).sort_by([("id", "ascending"), ("distilled", "ascending")])
    values = [similarity.get(number) for number in both["id"].to_pylist()]
    return both.append_column("similarity", pa.array(values, MIXED.schema.field("similarity").type, from_pandas=True))


def similarities(hypotheses: Sequence[str], references: Sequence[str]) -> list[float]:
    """Sentence chrF of each pair of texts, from 0 to 100; NaN without a reference, where it is empty."""
    metric = CHRF()
    pairs = zip(hypotheses, references, strict=True)
    return [
        metric.sentence_score(hypothesis, [reference]).score if reference else float("nan")
        for hypothesis, reference in pairs
    ]
