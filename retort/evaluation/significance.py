"""Paired bootstrap resampling (Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation").

Both systems are scored on the same resamples of the test set's segments.

Shapes: S resamples, N segments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from retort.errors import RetortError
from retort.evaluation.metrics import Measured

SEED = 12345
"""sacreBLEU's own default, so that both draw the same resamples."""
CELLS_AT_ONCE = 8_000_000
"""Largest block of the resampling matrix, in numbers; 64 MB."""
LOW, HIGH = 2.5, 97.5
ROUNDING = 1e-9
"""Differences that are nearer to each other than this share of the scores are equal: float sums round off ties."""


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
    """How often each segment occurs in each resample: blocks (s, N) of float64 with ``samples`` rows in all."""
    generator = np.random.default_rng(seed)
    done = 0
    while done < samples:
        rows = min(samples - done, max(1, CELLS_AT_ONCE // segments))
        drawn = generator.integers(segments, size=(rows, segments))
        drawn += np.arange(rows)[:, None] * segments
        counts = np.bincount(drawn.ravel(), minlength=rows * segments)
        yield counts.reshape(rows, segments).astype(np.float64)
        done += rows


def resampled_scores(metric: str, systems: Sequence[Measured], samples: int, seed: int = SEED) -> np.ndarray:
    """Score systems, each measured in ``metric`` on the same segments, on the same resamples: (systems, S).

    Raises RetortError when the numbers of segments differ.
    """
    segments = {system.segments for system in systems}
    if len(segments) != 1 or 0 in segments:
        raise RetortError(
            f"{metric}: systems with {', '.join(map(str, sorted(segments)))} segments cannot be compared; "
            "score every system on the same sentences"
        )
    scorer = systems[0].scorer
    blocks = resampling_counts(segments.pop(), samples, seed)
    return np.concatenate([scorer.resampled_scores(systems, counts_sn) for counts_sn in blocks], axis=1)


def differences(
    metric: str, systems: Sequence[Measured], baseline: Measured, samples: int, seed: int = SEED
) -> list[Difference]:
    """Compare each system with the baseline, all of them measured in ``metric``.

    The interval is the 2.5th to 97.5th percentile of the resampled differences. The p-value is two-sided: the share of
    resampled differences, shifted so that their centre is no difference, at least as far from it as the observed
    one, with one added above and below so that it is never 0. Equal outputs have p = 1. So has a test set of one
    segment, which is all of each resample: the interval is the difference alone, and nothing says how much it varies.
    """
    base_scores, *system_scores = resampled_scores(metric, [baseline, *systems], samples=samples, seed=seed)
    results = []
    for system, scores in zip(systems, system_scores, strict=True):
        observed, drawn = system.value - baseline.value, scores - base_scores
        low, high = np.percentile(drawn, [LOW, HIGH])
        rounding = ROUNDING * max(np.abs(scores).max(), np.abs(base_scores).max())
        extreme = np.count_nonzero(np.abs(drawn - observed) >= abs(observed) - rounding)
        results.append(
            Difference(
                value=system.value,
                baseline_value=baseline.value,
                difference=observed,
                low=float(low),
                high=float(high),
                p_value=float((extreme + 1) / (samples + 1)) if system.segments > 1 else 1.0,
            )
        )
    return results
