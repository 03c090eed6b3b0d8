"""The metrics: what each says about a list of outputs, and the statistics of segments that it is computed from.

All but distinct-n are functions of statistics that are summed over segments, and so over any resample of them. With
several references BLEU clips n-gram counts at the highest of them and takes the nearest length, chrF and ROUGE take the
best one, TER the least edits and the mean length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sacrebleu
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from retort.errors import RetortError
from retort.evaluation import rouge

SACREBLEU: dict[str, Callable[[], Any]] = {
    # force only silences a warning about text that looks tokenised; it does not change the score.
    "BLEU": lambda: BLEU(force=True),
    "BLEU-lc": lambda: BLEU(force=True, lowercase=True),
    "chrF": CHRF,
    "TER": lambda: TER(case_sensitive=True),
}
"""sacreBLEU's metrics by their names in the tables; chrF is chrF2 (character 6-grams, no words, beta 2)."""
DISTINCT = {"distinct-1": 1, "distinct-2": 2}
"""Length of the n-grams. There is no bootstrap of these: a resample repeats sentences, and that alone lowers them."""
METRICS = (*SACREBLEU, *rouge.KINDS, *DISTINCT)


@dataclass(frozen=True)
class Score:
    """A metric's value over a test set and the signature of every choice behind it."""

    metric: str
    value: float
    signature: str


def score(metric: str, hypotheses: Sequence[str], references: Sequence[list[str]]) -> Score:
    """A metric of these outputs, each with its references, in percent."""
    if metric in DISTINCT:
        return distinct(metric, hypotheses)
    statistics, signature = segment_statistics(metric, hypotheses, references)
    return Score(metric, corpus_score(metric, statistics), signature)


def segment_statistics(
    metric: str, hypotheses: Sequence[str], references: Sequence[list[str]]
) -> tuple[np.ndarray, str]:
    """The sufficient statistics of every segment, float64 (segments, statistics), and the metric's signature.

    Their sum over segments gives the corpus score. The columns are sacreBLEU's: BLEU has hypothesis length, reference
    length, 4 matches, 4 totals; chrF has (hypothesis, reference, matching) n-grams for each of 6 orders; TER has
    edits and reference length. ROUGE has the segment's score and 1. Raises RetortError unless there is one hypothesis
    for each of at least one list of references.
    """
    if len(hypotheses) != len(references) or not hypotheses:
        raise RetortError(
            f"{metric}: {len(hypotheses)} hypotheses and {len(references)} references; expected as many, at least 1"
        )
    if metric in rouge.KINDS:
        scores = rouge.sentence_scores(metric, hypotheses, references)
        return np.stack([scores, np.ones(len(scores))], 1), rouge.signature(references)
    scorer = SACREBLEU[metric]()
    several = max(len(own) for own in references)
    streams = [[own[i] if i < len(own) else None for own in references] for i in range(several)]
    statistics = scorer._extract_corpus_statistics(list(hypotheses), streams)
    return np.asarray(statistics, dtype=np.float64), str(scorer.get_signature())


def corpus_score(metric: str, statistics: np.ndarray) -> float:
    """The corpus score of segment statistics (segments, statistics), by sacreBLEU itself where it is its metric."""
    sums = statistics.sum(axis=0)
    if metric in rouge.KINDS:
        return float(sums[0] / sums[1])
    return float(SACREBLEU[metric]()._compute_score_from_stats(sums.tolist()).score)


def distinct(metric: str, hypotheses: Sequence[str]) -> Score:
    """distinct-n (Li et al. 2016): distinct n-grams of all outputs to all their n-grams, in percent; 0 without any."""
    n, tokenise = DISTINCT[metric], Tokenizer13a()
    found: set[tuple[str, ...]] = set()
    total = 0
    for text in hypotheses:
        tokens = tokenise(text).split()
        grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
        found.update(grams)
        total += len(grams)
    signature = f"distinct {n}-grams / {n}-grams of all outputs|case:mixed|tok:13a|version:{sacrebleu.__version__}"
    return Score(metric, 100 * len(found) / total if total else 0.0, signature)
