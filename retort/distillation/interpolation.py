"""Sequence-level interpolation: the teacher's candidate nearest to the reference (Kim and Rush 2016)."""

from __future__ import annotations

import pandas as pd
from sacrebleu.metrics.bleu import BLEU


def nearest_to_references(candidates: pd.DataFrame, references: pd.Series, tokenizer: str) -> pd.DataFrame:
    """The candidate of each source with the highest sentence BLEU against its reference; of equals the first one.

    ``candidates`` has the columns id and text, best first; ``references`` are indexed by id. BLEU is smoothed as in
    sacrebleu, with its ``tokenizer``, and is the new column ``bleu``.
    """
    metric = BLEU(effective_order=True, tokenize=tokenizer)
    pairs = zip(candidates["text"], references.loc[candidates["id"]], strict=True)
    scored = candidates.assign(bleu=[metric.sentence_score(text, [reference]).score for text, reference in pairs])
    return scored.loc[scored["bleu"].groupby(scored["id"], sort=False).idxmax()]
