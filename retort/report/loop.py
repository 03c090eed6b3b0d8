"""What the report says about multi-modality and the EM loop: a row an iteration, and the iteration kept."""

from __future__ import annotations

from dataclasses import dataclass

from retort.config import em_student, em_teacher
from retort.distillation.guards import CHANGED, DISTINCT, LENGTH, LIKELIHOOD, QUALITY, verdicts
from retort.evaluation.significance import Spread, spread
from retort.report.inputs import Inputs
from retort.report.summary import Difference, difference, score_spreads

GUARDED = (LENGTH, DISTINCT, QUALITY, LIKELIHOOD)


@dataclass(frozen=True)
class Modality:
    """Multi-modality of a system's training text, means over seeds."""

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
    valid: Spread | None
    """The leading metric on the validation set."""
    scores: dict[str, Spread]
    """The leading metric on the test set by search."""
    differences: dict[str, Difference | None]
    """The same minus that of the first iteration, by search."""
    teacher: Spread | None
    """The same of the autoregressive model behind this iteration's text, its first search."""
    guards: dict[str, tuple[Spread, Spread]]
    """What was chosen for this iteration, and the first teacher's own, by metric."""
    changed: Spread | None


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
                    system,
                    rows[0]["data"],
                    spread([row["nats"] / row["tokens"] for row in possible]),
                    spread([row["nats"] / row["sentences"] for row in possible]),
                    sum(row["sentences"] for row in rows),
                    sum(row["infeasible"] for row in rows),
                )
            )
    return result


def iterations(inputs: Inputs, test_set: str) -> list[Iteration]:
    """The iterations that have been scored, in order."""
    scores = score_spreads(inputs, test_set)
    found = {modality.system: modality for modality in modalities(inputs)}
    result = []
    for t in range(1, int((inputs.config.get("em") or {}).get("iterations", 0)) + 1):
        student = em_student(t)
        searches = [search for system, search in scores if system == student]
        if not searches:
            continue
        seeds = sorted({row["seed"] for row in inputs.scores if row["system"] == student})
        baselines = {search: [f"{em_student(1)}/seed{seed}/{search}" for seed in seeds] for search in searches}
        result.append(
            Iteration(
                number=t,
                seeds=len(seeds),
                modality=found.get(student),
                valid=_validation(inputs, student),
                scores={search: scores[student, search][inputs.leading] for search in searches},
                differences={s: difference(inputs, (student, s), test_set, baselines[s]) for s in searches},
                teacher=_teacher(inputs, scores, t),
                guards=_guards(inputs, t),
                changed=_guard(inputs, t, CHANGED),
            )
        )
    return result


def kept(loop: list[Iteration]) -> Iteration | None:
    """The iteration with the best validation score, the earlier one of equals."""
    validated = [iteration for iteration in loop if iteration.valid is not None]
    return max(validated, key=lambda i: (i.valid.mean if i.valid else 0.0, -i.number), default=None)


def ended(inputs: Inputs) -> list[str]:
    """Why the loop ended early, one sentence a seed where it did."""
    return [reason for table in inputs.guards for reason in verdicts(table).values() if reason]


def _validation(inputs: Inputs, system: str) -> Spread | None:
    values = [
        model["validation"][inputs.leading]
        for run, model in inputs.checkpoints.items()
        if run.system == system and inputs.leading in (model.get("validation") or {})
    ]
    return spread(values) if values else None


def _teacher(inputs: Inputs, scores: dict[tuple[str, str], dict[str, Spread]], t: int) -> Spread | None:
    system = em_teacher(t) if t > 1 else "teacher"
    first = next(iter(inputs.searches(system)), "")
    return scores.get((system, first), {}).get(inputs.leading)


def _guards(inputs: Inputs, t: int) -> dict[str, tuple[Spread, Spread]]:
    found = {metric: (_guard(inputs, t, metric), _guard(inputs, t, metric, "first")) for metric in GUARDED}
    return {metric: (value, first) for metric, (value, first) in found.items() if value and first}


def _guard(inputs: Inputs, t: int, metric: str, column: str = "value") -> Spread | None:
    rows = [row for table in inputs.guards for row in table.to_pylist()]
    values = [row[column] for row in rows if row["iteration"] == t and row["metric"] == metric]
    return spread(values) if values else None
