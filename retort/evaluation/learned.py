"""Learned metrics: a program scores each output; the corpus score is the mean.

The program runs in an environment of its own, because such metrics bring large dependencies. It reads JSON lines,
``{"source": ..., "hypothesis": ..., "references": [...]}``, from its standard input to the end. It writes
``{"signature": ...}`` and then ``{"score": ...}`` for each line, in their order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from retort.data.parquet import read_table
from retort.data.programs import called
from retort.data.runs import Run
from retort.data.tables import SEGMENT_SCORES
from retort.errors import RetortError
from retort.evaluation.metrics import Measured
from retort.evaluation.quality import Pairs


class MeanOfSegments:
    """Scores a resample of segments by the mean of their scores."""

    def resampled_scores(self, systems: Sequence[Measured], counts_sn: np.ndarray) -> np.ndarray:
        """Means (systems, S) of resamples that hold each segment as often as ``counts_sn`` says."""
        scores_mn = np.stack([system.resampling for system in systems])
        return scores_mn @ counts_sn.T / counts_sn.sum(axis=1)


def segment_scores(name: str, command: Sequence[str], pairs: Pairs) -> tuple[list[float], str]:
    """Scores of the outputs in the order of ``pairs``, and the signature.

    Raises RetortError when the program cannot be started, fails, or does not write one finite score per output.
    """
    place = f"evaluation.learned.{name}: command {list(command)!r}"
    questions = [
        json.dumps({"source": source, "hypothesis": hypothesis, "references": references}, ensure_ascii=False)
        for source, hypothesis, references in zip(pairs.sources, pairs.hypotheses, pairs.references, strict=True)
    ]
    first, *lines = called(command, questions, place)[0] or [""]
    signature = _field(first, "signature", str, f"{place}, line 1")
    if len(lines) != len(questions):
        raise RetortError(
            f"{place}: {len(lines)} scores for {len(questions)} outputs of test set {pairs.test_set!r}; expected one "
            f"JSON line per output after the line of the signature"
        )
    scores = []
    for number, line in enumerate(lines, 2):
        value = float(_field(line, "score", (int, float), f"{place}, line {number}"))
        if not math.isfinite(value):
            raise RetortError(f"{place}, line {number}: the score is {value}; expected a finite number")
        scores.append(value)
    return scores, signature


def _field(line: str, key: str, kind: Any, place: str) -> Any:
    """The only key of a JSON line."""
    try:
        value = json.loads(line)[key]
    except (ValueError, LookupError, TypeError, RecursionError):
        value = None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RetortError(f'{place}: {line[:200]!r}; expected a JSON line {{"{key}": ...}}')
    return value


@dataclass(frozen=True)
class SegmentScores:
    """A SEGMENT_SCORES table."""

    path: Path
    run: Run
    """Whose outputs are scored."""
    rows: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> SegmentScores:
        """Raises RetortError unless the table is of one run."""
        rows = read_table(path, SEGMENT_SCORES).to_pylist()
        runs = {Run(row["system"], row["seed"], row["search"]) for row in rows}
        if len(runs) != 1:
            raise RetortError(f"{path}: scores of {len(runs)} systems, seeds and searches; expected one of each")
        return cls(path, runs.pop(), rows)

    def measures(self, corpora: Mapping[str, Pairs]) -> dict[tuple[str, str], Measured]:
        """The corpus scores by test set and metric. Raises RetortError unless each metric has exactly the ids of these
        sets."""
        found: dict[tuple[str, str], dict[int, float]] = {}
        signatures: dict[tuple[str, str], str] = {}
        for row in self.rows:
            key = (row["test_set"], row["metric"])
            found.setdefault(key, {})[row["id"]] = row["value"]
            signatures[key] = row["signature"]
        measures = {}
        for (test_set, metric), values in found.items():
            if test_set not in corpora or sorted(values) != corpora[test_set].ids.tolist():
                raise RetortError(
                    f"{self.path}: other outputs of test set {test_set!r} than {self.run} has; score them again"
                )
            ordered = np.array([values[i] for i in sorted(values)])
            measures[test_set, metric] = Measured(
                value=float(ordered.mean()),
                signature=signatures[test_set, metric],
                segments=len(ordered),
                resampling=ordered,
                scorer=MeanOfSegments(),
            )
        for test_set, metric in product(corpora, {metric for _, metric in measures}):
            if (test_set, metric) not in measures:
                raise RetortError(f"{self.path}: no {metric} of test set {test_set!r}; score the outputs again")
        return measures
