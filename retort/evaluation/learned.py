"""Learned metrics: a program scores each output; the corpus score is the mean.

The program runs in an environment of its own, because such metrics bring large dependencies. It reads JSON lines,
``{"source": ..., "hypothesis": ..., "references": [...]}``, from its standard input to the end. It writes
``{"signature": ...}`` and then ``{"score": ...}`` for each line, in their order.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retort.data.parquet import read_table
from retort.data.runs import Run
from retort.data.tables import SEGMENT_SCORES
from retort.errors import RetortError
from retort.evaluation.metrics import Measured, Score
from retort.evaluation.quality import Pairs

SHOWN = 2000
"""Of what the program wrote to standard error, an error shows so many characters."""


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
    lines = _answers(name, command, pairs)
    place = f"evaluation.learned.{name}: command {list(command)!r}"
    signature = _field(lines[0] if lines else "", "signature", str, f"{place}, line 1")
    if len(lines) - 1 != len(pairs.hypotheses):
        raise RetortError(
            f"{place}: {len(lines) - 1} scores for {len(pairs.hypotheses)} outputs of test set {pairs.test_set!r}; "
            "expected one JSON line per output after the line of the signature"
        )
    scores = []
    for number, line in enumerate(lines[1:], 2):
        value = float(_field(line, "score", (int, float), f"{place}, line {number}"))
        if not math.isfinite(value):
            raise RetortError(f"{place}, line {number}: the score is {value}; expected a finite number")
        scores.append(value)
    return scores, signature


def _answers(name: str, command: Sequence[str], pairs: Pairs) -> list[str]:
    questions = [
        json.dumps({"source": source, "hypothesis": hypothesis, "references": references}, ensure_ascii=False)
        for source, hypothesis, references in zip(pairs.sources, pairs.hypotheses, pairs.references, strict=True)
    ]
    place = f"evaluation.learned.{name}: command {list(command)!r}"
    try:
        done = subprocess.run(command, input="".join(f"{line}\n" for line in questions).encode(), capture_output=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RetortError(f"{place}: cannot be started ({reason}); name a program that this machine has") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", errors="replace").strip()[-SHOWN:] or "nothing"
        raise RetortError(f"{place}: ended with status {done.returncode}; standard error: {said}")
    try:
        return done.stdout.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise RetortError(f"{place}: its output is not UTF-8 ({error}); have it write UTF-8") from None


def _field(line: str, key: str, kind: Any, place: str) -> Any:
    """The only key of a JSON line."""
    try:
        value = json.loads(line)[key]
    except (ValueError, LookupError, TypeError):
        value = None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RetortError(f'{place}: {line[:200]!r}; expected a JSON line {{"{key}": ...}}')
    return value


def run_of_segments(path: Path) -> Run:
    """The run whose outputs a SEGMENT_SCORES table scores; raises RetortError unless it is of one."""
    columns = ["system", "seed", "search"]
    runs = read_table(path, SEGMENT_SCORES, columns).group_by(columns).aggregate([]).to_pylist()
    if len(runs) != 1:
        raise RetortError(f"{path}: scores of {len(runs)} systems, seeds and searches; expected one of each")
    return Run(**runs[0])


def learned_measures(path: Path, run: Run, corpora: Mapping[str, Pairs]) -> dict[tuple[str, str], Measured]:
    """The corpus scores in a SEGMENT_SCORES table, by test set and metric.

    Raises RetortError unless it is of this run and holds exactly the ids of these test sets.
    """
    if (scored := run_of_segments(path)) != run:
        raise RetortError(f"{path}: scores of {scored}; expected those of {run}")
    found: dict[tuple[str, str], dict[int, float]] = {}
    signatures: dict[tuple[str, str], str] = {}
    for row in read_table(path, SEGMENT_SCORES).to_pylist():
        key = (row["test_set"], row["metric"])
        found.setdefault(key, {})[row["id"]] = row["value"]
        signatures[key] = row["signature"]
    measures = {}
    for (test_set, metric), values in found.items():
        if test_set not in corpora or sorted(values) != corpora[test_set].ids.tolist():
            raise RetortError(f"{path}: other outputs of test set {test_set!r} than {run} has; score them again")
        ordered = np.array([values[i] for i in sorted(values)])
        measures[test_set, metric] = Measured(
            value=float(ordered.mean()),
            signature=signatures[test_set, metric],
            segments=len(ordered),
            resampling=ordered,
            scorer=MeanOfSegments(),
        )
    return measures


def learned_scores(paths: Iterable[Path], run: Run, corpora: Mapping[str, Pairs]) -> dict[str, list[Score]]:
    """The scores in these tables, by test set; raises RetortError as ``learned_measures`` does."""
    scores: dict[str, list[Score]] = {}
    for path in paths:
        for (test_set, metric), measured in learned_measures(path, run, corpora).items():
            scores.setdefault(test_set, []).append(Score(metric, measured.value, measured.signature))
    return scores
