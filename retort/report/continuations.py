"""Quality by length and exposure bias in the report."""

from __future__ import annotations

from dataclasses import dataclass

from retort.evaluation.prefixes import NONE, REFERENCE, STUDENT, TEACHER
from retort.evaluation.significance import Spread, spread
from retort.report.inputs import Inputs
from retort.report.summary import Key

PREFIXES = {STUDENT: "of the student's output", TEACHER: "of the teacher's", REFERENCE: "of the reference"}
"""Whose beginnings are completed."""


@dataclass(frozen=True, order=True)
class Bucket:
    """Sentences whose references have from ``shortest`` to ``longest`` words."""

    shortest: int
    longest: int | None
    sentences: int

    @property
    def name(self) -> str:
        """Its bounds."""
        if self.longest is None:
            return f"from {self.shortest}"
        return f"{self.shortest} to {self.longest}" if self.shortest else f"up to {self.longest}"


@dataclass(frozen=True)
class Completions:
    """Outputs with equal beginnings, completed by a student and by its teacher: the leading metric, over seeds."""

    system: str
    share: float
    alone: Spread
    """Student."""
    teacher_alone: Spread
    completed: dict[str, tuple[Spread, Spread, Spread]]
    """By the prefix: completed by the student, by the teacher, and the teacher's gain. Each model has an advantage
    after its own prefix; see ``retort.evaluation.exposure``."""


def length_buckets(inputs: Inputs, test_set: str) -> list[Bucket]:
    """The buckets of a test set, the shortest sentences first."""
    rows = [row for row in inputs.lengths if row["test_set"] == test_set]
    buckets = {Bucket(row["shortest"], row["longest"], row["sentences"]) for row in rows}
    return sorted(buckets, key=lambda bucket: bucket.shortest)


def by_length(inputs: Inputs, test_set: str, metric: str) -> dict[Key, dict[Bucket, Spread]]:
    """A metric by system and search, and by bucket, in the config's order."""
    values: dict[Key, dict[Bucket, list[float]]] = {}
    for row in inputs.lengths:
        if (row["test_set"], row["metric"]) == (test_set, metric):
            bucket = Bucket(row["shortest"], row["longest"], row["sentences"])
            values.setdefault((row["system"], row["search"]), {}).setdefault(bucket, []).append(row["value"])
    keys = sorted(values, key=lambda key: inputs.order(*key))
    return {key: {bucket: spread(scores) for bucket, scores in values[key].items()} for key in keys}


def completions(inputs: Inputs, test_set: str) -> list[Completions]:
    """Each student and share of one test set, in the leading metric and the config's order."""
    values: dict[tuple[str, float], dict[tuple[str, str], dict[int, float]]] = {}
    for row in inputs.exposure:
        if (row["test_set"], row["metric"]) == (test_set, inputs.leading):
            cells = values.setdefault((row["system"], row["share"]), {})
            cells.setdefault((row["prefix"], row["completed_by"]), {})[row["seed"]] = row["value"]
    result = []
    for system, share in sorted(values, key=lambda key: (*inputs.order(key[0]), key[1])):
        cells, alone = values[system, share], values[system, 0.0]
        if not share:
            continue
        completed = {}
        for prefix in PREFIXES:
            student, teacher = cells[prefix, STUDENT], cells[prefix, TEACHER]
            gains = {seed: teacher[seed] - student[seed] for seed in student}
            completed[prefix] = (_over_seeds(student), _over_seeds(teacher), _over_seeds(gains))
        result.append(
            Completions(
                system=system,
                share=share,
                alone=_over_seeds(alone[NONE, STUDENT]),
                teacher_alone=_over_seeds(alone[NONE, TEACHER]),
                completed=completed,
            )
        )
    return result


def _over_seeds(values: dict[int, float]) -> Spread:
    return spread(list(values.values()))
