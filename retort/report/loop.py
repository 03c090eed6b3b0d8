"""Multi-modality and the EM loop in the report: one row per iteration, and the iteration kept."""

from __future__ import annotations

from dataclasses import dataclass

from retort.config import em_student, em_teacher
from retort.data.runs import Run
from retort.distillation.guards import CHANGED, DISTINCT, IMPOSSIBLE, LENGTH, LIKELIHOOD, QUALITY, verdicts
from retort.evaluation.significance import Spread, spread
from retort.report.inputs import Inputs
from retort.report.summary import Difference, difference, score_spreads

GUARDED = (LENGTH, DISTINCT, QUALITY, LIKELIHOOD)


@dataclass(frozen=True)
class Modality:
    """Multi-modality of a system's training text, means over seeds; pairs are those of all seeds together."""

    system: str
    data: str
    ncm: Spread
    nats_per_sentence: Spread
    pairs: int
    infeasible: int


@dataclass(frozen=True)
class Iteration:
    """One iteration of the loop, means over the seeds that came to it."""

    number: int
    seeds: int
    modality: Modality | None
    validation: dict[int, float]
    """The leading metric on the validation set by seed."""
    scores: dict[str, Spread]
    """The leading metric on the test set by search."""
    differences: dict[str, Difference | None]
    """The same minus that of the first iteration, by search."""
    teacher: Spread | None
    """The same of the autoregressive model behind this iteration's text, its first search."""
    guards: dict[str, tuple[Spread, Spread]]
    """Of the candidates chosen for this iteration, and of the first teacher's translations, by metric."""
    changed: Spread | None
    """Share of the choices that are not the first candidate."""
    impossible: Spread | None
    """Share of the sources without a candidate that the parallel model can produce."""

    @property
    def valid(self) -> Spread | None:
        return spread(list(self.validation.values())) if self.validation else None


def modalities(inputs: Inputs) -> list[Modality]:
    """NCM of every system it was measured with, in the config's order."""
    systems = sorted({row["system"] for row in inputs.multimodality}, key=inputs.order)
    result = []
    for system in systems:
        rows = [row for row in inputs.multimodality if row["system"] == system]
        possible = [row for row in rows if row["tokens"]]
        if possible:
            result.append(
                Modality(
                    system=system,
                    data=rows[0]["data"],
                    ncm=spread([row["nats"] / row["tokens"] for row in possible]),
                    nats_per_sentence=spread([row["nats"] / row["sentences"] for row in possible]),
                    pairs=sum(row["sentences"] for row in rows),
                    infeasible=sum(row["infeasible"] for row in rows),
                )
            )
    return result


def iterations(inputs: Inputs, test_set: str) -> list[Iteration]:
    """The iterations that have been scored, in order."""
    scores = score_spreads(inputs, test_set)
    measured = {modality.system: modality for modality in modalities(inputs)}
    result = []
    for t in range(1, inputs.config.em.iterations + 1):
        student = em_student(t)
        searches = [search for system, search in scores if system == student]
        if not searches:
            continue
        seeds = sorted({row["seed"] for row in inputs.scores if row["system"] == student})
        baselines = {search: [str(Run(em_student(1), seed, search)) for seed in seeds] for search in searches}
        result.append(
            Iteration(
                number=t,
                seeds=len(seeds),
                modality=measured.get(student),
                validation=_validation(inputs, student),
                scores={search: scores[student, search][inputs.leading] for search in searches},
                differences={
                    s: difference(inputs, (student, s), test_set=test_set, baselines=baselines[s]) for s in searches
                },
                teacher=_teacher(inputs, scores, t),
                guards=_guards(inputs, t),
                changed=_guard(inputs, t, CHANGED),
                impossible=_guard(inputs, t, IMPOSSIBLE),
            )
        )
    return result


def kept(loop: list[Iteration], sign: int = 1) -> Iteration | None:
    """The iteration with the best validation score, the earlier one of equals; ``sign`` -1: the lowest is the best.

    Guards end the loop of each seed by itself, so each iteration is compared with the best before it on common seeds.
    """
    best: Iteration | None = None
    for iteration in sorted(loop, key=lambda iteration: iteration.number):
        if iteration.validation and (best is None or sign * _gain(best, iteration) > 0):
            best = iteration
    return best


def ended(inputs: Inputs) -> list[str]:
    """Why the loop ended early, one sentence per seed where it did."""
    return [reason for table in inputs.guards for reason in verdicts(table).values() if reason]


def _gain(before: Iteration, after: Iteration) -> float:
    """Sum of the gains in validation of the seeds that both have; 0 without one."""
    common = before.validation.keys() & after.validation.keys()
    return sum(after.validation[seed] - before.validation[seed] for seed in common)


def _validation(inputs: Inputs, system: str) -> dict[int, float]:
    return {
        run.seed: checkpoint.validation[inputs.leading]
        for run, checkpoint in inputs.checkpoints.items()
        if run.system == system and inputs.leading in checkpoint.validation
    }


def _teacher(inputs: Inputs, scores: dict[tuple[str, str], dict[str, Spread]], t: int) -> Spread | None:
    system = em_teacher(t) if t > 1 else "teacher"
    key = (system, next(iter(inputs.config.searches_of(system)), ""))
    return scores[key].get(inputs.leading) if key in scores else None


def _guards(inputs: Inputs, t: int) -> dict[str, tuple[Spread, Spread]]:
    measured = {
        metric: (_guard(inputs, t, metric), _guard(inputs, t, metric=metric, column="first")) for metric in GUARDED
    }
    return {metric: (value, first) for metric, (value, first) in measured.items() if value and first}


def _guard(inputs: Inputs, t: int, metric: str, column: str = "value") -> Spread | None:
    rows = [row for table in inputs.guards for row in table.to_pylist()]
    values = [row[column] for row in rows if row["iteration"] == t and row["metric"] == metric]
    return spread(values) if values else None
