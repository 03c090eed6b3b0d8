"""Two readings of a comparison of trainings: after equally many updates, and after equal time.

A method whose updates cost three times as much looks better at equal updates than a user finds it. What is compared is
the best validation score up to a point of the training; test sets are scored once, at the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, NamedTuple

from retort.data.runs import Run
from retort.evaluation.significance import Spread, spread
from retort.report.inputs import Inputs

Budget = Literal["updates", "seconds"]


class Validation(NamedTuple):
    """A validation of one training: when it was, and the leading metric."""

    updates: float
    seconds: float
    """On a processor, where the log has them; else by the clock."""
    score: float


Pair = tuple[list[Validation], list[Validation], Run]
"""The validations of a training and of its baseline, and which training that is."""


@dataclass(frozen=True)
class Reading:
    """A system and its baseline, at the budget of the one that had less of it; over seeds, each training once."""

    budget: Spread
    own: Spread
    baseline: Spread
    difference: Spread


@dataclass(frozen=True)
class Readings:
    """Both readings of one comparison."""

    system: str
    baseline: str
    by_clock: bool
    """Whether a log has no processor time."""
    updates: Reading | None
    seconds: Reading | None


def readings(inputs: Inputs) -> list[Readings]:
    """Of each system with logs and each of its baselines, in the config's order: that of all where none but other
    searches of the same system is named."""
    common = inputs.baseline.partition("/")[0]
    result = []
    for system in sorted({run.system for run in inputs.logs}, key=inputs.order):
        named = inputs.config.evaluation.baselines.get(system, [])
        names = [name.partition("/")[0] for name in ([named] if isinstance(named, str) else named)]
        for baseline in dict.fromkeys([name for name in names if name != system] or [common]):
            if baseline != system and (pairs := list(_pairs(inputs, system, baseline))):
                sign = inputs.leading_sign
                runs = [run for run in inputs.logs if run.system in (system, baseline)]
                by_clock = not all(_has_processor_time(inputs, run) for run in runs)
                updates, seconds = (reading(pairs, budget, sign) for budget in ("updates", "seconds"))
                result.append(Readings(system, baseline, by_clock=by_clock, updates=updates, seconds=seconds))
    return result


def unvalidated(inputs: Inputs) -> list[str]:
    """Systems with logs in which no validation has the leading metric, in the config's order."""
    validated = {run.system for run in inputs.logs if _validations(inputs, run)}
    return sorted({run.system for run in inputs.logs} - validated, key=inputs.order)


def reading(pairs: Iterable[Pair], budget: Budget, sign: int) -> Reading | None:
    """The best scores of both trainings up to the budget of the one that ended earlier; ``sign`` -1: lowest is best.

    A pair of which one was not validated by then is left out; None where no other is left.
    """
    budgets, own, differences = [], [], []
    others: dict[Run, list[float]] = {}
    for *pair, baseline in pairs:
        limit = min(getattr(validations[-1], budget) for validations in pair)
        if any(getattr(validations[0], budget) > limit for validations in pair):
            continue
        score, other = (sign * max(sign * v.score for v in vs if getattr(v, budget) <= limit) for vs in pair)
        budgets.append(limit)
        own.append(score)
        differences.append(score - other)
        others.setdefault(baseline, []).append(other)
    if not budgets:
        return None
    distinct = [fmean(scores) for scores in others.values()]
    return Reading(spread(budgets), spread(own), baseline=spread(distinct), difference=spread(differences))


def _pairs(inputs: Inputs, system: str, baseline: str) -> Iterable[Pair]:
    """Validations of both, seed by seed; a baseline that lacks a seed takes part with its first one."""
    runs = inputs.runs_in_order(inputs.logs)
    theirs = [run for run in runs if run.system == baseline]
    for run in [run for run in runs if run.system == system]:
        same = [other for other in theirs if other.seed == run.seed] or theirs
        if same:
            own, other = _validations(inputs, run), _validations(inputs, same[0])
            if own and other:
                yield own, other, same[0]


def _validations(inputs: Inputs, run: Run) -> list[Validation]:
    """All validations of a training, in order."""
    rows = [row for row in inputs.logs[run] if row["split"] == "valid"]
    seconds: dict[int, float] = {row["update"]: row["seconds"] for row in rows}
    seconds |= {row["update"]: row["value"] for row in rows if row["metric"] == "processor_seconds"}
    scored = [row for row in rows if row["metric"] == inputs.leading]
    return sorted(Validation(row["update"], seconds[row["update"]], row["value"]) for row in scored)


def _has_processor_time(inputs: Inputs, run: Run) -> bool:
    return any(row["metric"] == "processor_seconds" for row in inputs.logs[run])
