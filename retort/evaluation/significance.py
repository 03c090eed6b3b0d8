"""Paired bootstrap resampling (Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation").

Both systems are scored on the same resamples of the test set's segments. Resampling sums segment statistics, so one
matrix product serves all resamples of all systems.

Shapes: S resamples, N segments, K statistics of a segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from retort.errors import RetortError
from retort.evaluation import rouge
from retort.evaluation.metrics import corpus_score

SEED = 12345
"""sacreBLEU's own default, so that both draw the same resamples."""
CELLS_AT_ONCE = 8_000_000
"""Largest block of the resampling matrix, in numbers; 64 MB."""
LOW, HIGH = 2.5, 97.5
NGRAM_ORDER = 4
BETA_SQUARED = 4.0


@dataclass(frozen=True)
class Difference:
    """A system minus a baseline in one metric: the point, its 95 % interval, and the p-value of no difference."""

    value: float
    baseline_value: float
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds; the deviation of one value is NaN."""

    n: int
    mean: float
    sd: float


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation (n - 1) of ``values``; NaN where there are too few."""
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean()) if len(array) else float("nan")
    return Spread(len(array), mean, float(array.std(ddof=1)) if len(array) > 1 else float("nan"))


def resampling_counts(segments: int, samples: int, seed: int = SEED) -> Iterator[np.ndarray]:
    """How often each segment stands in each resample: blocks (s, N) of float64 that together have ``samples`` rows."""
    generator = np.random.default_rng(seed)
    done = 0
    while done < samples:
        rows = min(samples - done, max(1, CELLS_AT_ONCE // segments))
        drawn = generator.integers(segments, size=(rows, segments))
        drawn += np.arange(rows)[:, None] * segments
        counts = np.bincount(drawn.ravel(), minlength=rows * segments)
        yield counts.reshape(rows, segments).astype(np.float64)
        done += rows


def resampled_scores(
    metric: str, systems: Sequence[np.ndarray], samples: int, seed: int = SEED
) -> tuple[np.ndarray, np.ndarray]:
    """Score systems, each a (N, K) matrix of segment statistics of the same segments, on the same resamples.

    Returns the corpus scores (systems,) and the resampled scores (systems, S). Raises RetortError when the numbers of
    segments differ.
    """
    segments = {len(statistics) for statistics in systems}
    if len(segments) != 1 or 0 in segments:
        raise RetortError(
            f"{metric}: systems with {', '.join(map(str, sorted(segments)))} segments cannot be compared; "
            "score every system on the same sentences"
        )
    together = np.concatenate(systems, axis=1)
    sums = np.concatenate([counts @ together for counts in resampling_counts(segments.pop(), samples, seed)])
    formula = FORMULAS[metric]
    points = np.array([corpus_score(metric, statistics) for statistics in systems])
    return points, np.stack([formula(part) for part in np.split(sums, len(systems), axis=1)])


def differences(
    metric: str, systems: Sequence[np.ndarray], baseline: np.ndarray, samples: int, seed: int = SEED
) -> list[Difference]:
    """Compare each system's segment statistics (N, K) with the baseline's.

    The interval is the 2.5th to 97.5th percentile of the resampled differences. The p-value is two-sided: the share of
    resampled differences, shifted so that their centre is no difference, at least as far from it as the observed
    one, with one added above and below so that it is never 0. Equal outputs have p = 1.
    """
    points, resampled = resampled_scores(metric, [baseline, *systems], samples, seed)
    results = []
    for point, scores in zip(points[1:], resampled[1:], strict=True):
        observed, drawn = point - points[0], scores - resampled[0]
        low, high = np.percentile(drawn, [LOW, HIGH])
        extreme = np.count_nonzero(np.abs(drawn - observed) >= abs(observed))
        results.append(
            Difference(
                value=float(point),
                baseline_value=float(points[0]),
                difference=float(observed),
                low=float(low),
                high=float(high),
                p_value=float((extreme + 1) / (samples + 1)),
            )
        )
    return results


def bleu_of_sums(sums: np.ndarray) -> np.ndarray:
    """BLEU with exponential smoothing of summed statistics (S, 10), as sacreBLEU computes it; (S,), in percent."""
    sums = np.asarray(sums, dtype=np.float64)
    hypothesis_length, reference_length = sums[:, 0], sums[:, 1]
    matches, totals = sums[:, 2 : 2 + NGRAM_ORDER], sums[:, 2 + NGRAM_ORDER :]
    # Each order without a match counts as half as many matches as the one before (Chen and Cherry 2014, method 3).
    halvings = np.cumsum((matches == 0) & (totals > 0), axis=1)
    precisions = np.where(matches > 0, matches, 0.5**halvings) / np.maximum(totals, 1)
    brevity = np.where(
        hypothesis_length < reference_length,
        np.exp(1 - reference_length / np.maximum(hypothesis_length, 1e-9)),
        1.0,
    )
    score = 100 * brevity * np.exp(np.log(precisions).mean(axis=1))
    return np.where((matches.sum(axis=1) > 0) & (totals > 0).all(axis=1), score, 0.0)


def chrf_of_sums(sums: np.ndarray) -> np.ndarray:
    """chrF2 of summed statistics (S, 18), averaged over the orders both sides have; (S,), in percent."""
    hypothesis, reference, matching = np.moveaxis(np.asarray(sums, dtype=np.float64).reshape(len(sums), -1, 3), 2, 0)
    present = (hypothesis > 0) & (reference > 0)
    orders = np.maximum(present.sum(axis=1), 1)
    precision = (np.where(present, matching / np.maximum(hypothesis, 1), 0)).sum(axis=1) / orders
    recall = (np.where(present, matching / np.maximum(reference, 1), 0)).sum(axis=1) / orders
    below = BETA_SQUARED * precision + recall
    return np.where(below > 0, 100 * (1 + BETA_SQUARED) * precision * recall / np.where(below > 0, below, 1), 0.0)


def ter_of_sums(sums: np.ndarray) -> np.ndarray:
    """TER of summed edits and reference lengths (S, 2), as sacreBLEU computes it; (S,), in percent."""
    edits, length = np.asarray(sums, dtype=np.float64).T
    return 100 * np.where(length > 0, edits / np.maximum(length, 1e-9), edits > 0)


def mean_of_sums(sums: np.ndarray) -> np.ndarray:
    """Mean of the segments' scores from their sum and number (S, 2): ROUGE; (S,)."""
    total, number = np.asarray(sums, dtype=np.float64).T
    return total / number


FORMULAS = {"BLEU": bleu_of_sums, "BLEU-lc": bleu_of_sums, "chrF": chrf_of_sums, "TER": ter_of_sums}
FORMULAS |= dict.fromkeys(rouge.KINDS, mean_of_sums)
"""From summed statistics (S, K) to the corpus score, by metric."""
