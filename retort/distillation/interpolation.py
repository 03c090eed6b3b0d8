"""Sequence-level interpolation: of the teacher's candidates the one nearest to the reference (Kim and Rush 2016)."""

from __future__ import annotations

import pandas as pd
from sacrebleu.metrics.bleu import BLEU


def nearest_to_references(candidates: pd.DataFrame, references: pd.Series) -> pd.DataFrame:
    """Of the candidates (columns id and text, best first) of each source the one with the highest sentence BLEU
    (smoothed as sacrebleu does) against its reference, found by id; the better candidate of equals. Adds the column
    ``bleu``."""
    metric = BLEU(effective_order=True)
    pairs = zip(candidates["text"], references.loc[candidates["id"]], strict=True)
    scored = candidates.assign(bleu=[metric.sentence_score(text, [reference]).score for text, reference in pairs])
    return scored.loc[scored["bleu"].groupby(scored["id"], sort=False).idxmax()]
