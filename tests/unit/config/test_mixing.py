"""What is refused of mixtures and samples that wait, and what a run on them depends on."""

from typing import Any

import pytest

from retort.config import UnionMixture
from retort.config.load import load_config
from retort.errors import RetortError
from tests.unit.config.test_load import BASE, problems

SELECTIVE = {"kind": "selective", "evaluator": "ctc"}


def student(name: str = "ctc", data: str = "mixed", **keys: Any) -> dict[str, Any]:
    return {"students": {**BASE["students"], "s": {"objective": {"name": name}, "data": data, **keys}}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (student(data="raw", mixture={"kind": "union"}), "students.s: mixture is of data: mixed, found data: raw"),
        (
            student("autoregressive", self_paced={}),
            "students.s: objective autoregressive gives samples no weights, as self_paced needs; use vanilla or",
        ),
        (
            student("janus", mixture={"kind": "weighted"}),
            "students.s: objective janus gives samples no weights, as a",
        ),
        (student("axe", self_paced={"criterion": "agreement"}), "students.s: objective axe has no slots that agree"),
        (student("dag", self_paced={"criterion": "agreement"}), "students.s: objective dag has no slots that agree"),
        (student(data="raw", self_paced={"criterion": "similarity"}), "students.s: similarity is that of the two targ"),
        (student(self_paced={"warmup": 0.6}), "students.s.self_paced: warmup (0.6) must be below full (0.6)"),
        (student(mixture={"kind": "unoin"}), "students.s.mixture.kind: unknown value 'unoin'; did you mean union"),
        (student(mixture={"kind": "selective"}), "students.s.mixture.evaluator: missing"),
        (
            student(mixture={**SELECTIVE, "evaluator": "ctcc"}),
            "students.s.mixture.evaluator: no student is named 'ctcc'; did you mean ctc?",
        ),
        (
            student(mixture={**SELECTIVE, "evaluator": "v"}),
            "students.s.mixture.evaluator: an evaluator is trained on distilled data, and v on raw",
        ),
        (
            {
                "students": {
                    "e": {"objective": {"name": "dag"}, "data": "distilled"},
                    "s": {"objective": {"name": "ctc"}, "data": "mixed", "mixture": {**SELECTIVE, "evaluator": "e"}},
                }
            },
            "students.s.mixture.evaluator: e has objective dag, which cannot evaluate; vanilla or cmlm",
        ),
        (
            {
                "students": {
                    "e": {"objective": {"name": "ctc"}, "data": "distilled", "model": {"max_length": 64}},
                    "s": {"objective": {"name": "ctc"}, "data": "mixed", "mixture": {**SELECTIVE, "evaluator": "e"}},
                }
            },
            "students.s.model.max_length: e evaluates its text: at most that one's 64 tokens, found 256",
        ),
        (
            {"teacher": {"objective": {"name": "autoregressive"}, "data": "mixed"}},
            "teacher.data: the teacher makes the mixed data",
        ),
        (
            {"em": {"iterations": 1, "student": {"data": "mixed"}}},
            "em.student.data: the loop's systems have its own",
        ),
        (
            {"students": {"c": {"objective": {"name": "ctc", "teacher_weight": 0.5}}}},
            "students.c.objective.teacher_weight: unknown key",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], expected: str) -> None:
    found = problems(**changes)
    assert len(found) == 1 and found[0].startswith(expected), found


def test_what_fits_is_accepted() -> None:
    for section in (
        {"data": "mixed"},
        {"data": "mixed", "mixture": SELECTIVE, "self_paced": {"criterion": "similarity", "random": True}},
        {"data": "raw", "self_paced": {"criterion": "agreement", "weights": "linear"}},
        {"data": "distilled", "self_paced": {}},
    ):
        load_config({**BASE, **student(**section)})
    config = load_config({**BASE, **student("autoregressive", mixture={"kind": "union"})})
    assert config.students["s"].mixture == UnionMixture(kind="union")
    taught = load_config({**BASE, "students": {"s": {"objective": {"name": "glat", "teacher_weight": 0.5}}}})
    assert taught.students["s"].objective.needs_teacher
    with pytest.raises(RetortError):
        load_config({**BASE, **student(self_paced={"start": 1.5})})
