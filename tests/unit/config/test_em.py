"""The EM loop's section: the systems it stands for, what they start from, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from retort.config import em_iteration, em_systems
from retort.config.load import load_config
from retort.errors import RetortError

BASE: dict[str, Any] = {
    "name": "run",
    "corpus": {"kind": "generated"},
    "seeds": [4, 5],
    "model": {"d_model": 64, "ffn": 96},
    "training": {"max_updates": 500, "warmup": 20},
    "teacher": {
        "objective": {"name": "autoregressive"},
        "model": {"ffn": 200, "decoder_layers": 2},
        "training": {"warmup": 30},
    },
}


def with_em(base: dict[str, Any] | None = None, **em: Any) -> dict[str, Any]:
    return {**copy.deepcopy(BASE), **(base or {}), "em": {"iterations": 3, **em}}


def problems(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(RetortError) as caught:
        load_config(raw)
    return [line.strip() for line in str(caught.value).splitlines()[1:-1]]


@pytest.mark.parametrize(
    ("name", "iteration"),
    [
        *(("em1", 1), ("em12", 12), ("em3-teacher", 3)),
        *(("em", 0), ("em0", 0), ("teacher", 0), ("emu1", 0), ("em-1", 0), ("em1x", 0), ("12", 0), ("em²", 0)),
    ],
)
def test_names_tell_the_iteration(name: str, iteration: int) -> None:
    assert em_iteration(name) == iteration


def test_a_loop_without_iterations_has_no_systems() -> None:
    config = load_config(BASE)
    assert config.em.iterations == 0
    assert list(config.systems) == ["teacher"]
    assert em_systems({}) == {}


def test_an_iteration_has_a_student_and_from_the_second_on_a_teacher() -> None:
    config = load_config(with_em({"students": {"c": {"objective": {"name": "ctc"}}}}))
    expected = ["teacher", "c", "em1", "em2-teacher", "em2", "em3-teacher", "em3"]
    assert list(config.systems) == expected
    assert [config.systems[name].data for name in expected[2:]] == ["em", "selected", "em", "selected", "em"]
    kinds = [config.systems[name].objective.name for name in expected[2:]]
    assert kinds == ["vanilla", "autoregressive", "vanilla", "autoregressive", "vanilla"]


def test_more_iterations_leave_the_first_ones_as_they_are() -> None:
    two, four = (load_config(with_em(iterations=n)).systems for n in (2, 4))
    assert list(four)[: len(two)] == list(two)
    assert all(four[name] == two[name] for name in two)


def test_the_students_start_from_the_shared_sections_and_the_teachers_from_the_teacher() -> None:
    raw = with_em(student={"training": {"warmup": 40}}, teacher={"training": {"max_updates": 90}})
    em = load_config(raw).em
    assert (em.student.model.d_model, em.student.model.ffn, em.student.model.decoder_layers) == (64, 96, 4)
    assert (em.student.training.max_updates, em.student.training.warmup) == (500, 40)
    assert (em.teacher.model.d_model, em.teacher.model.ffn, em.teacher.model.decoder_layers) == (64, 200, 2)
    assert (em.teacher.training.max_updates, em.teacher.training.warmup) == (90, 30)


def test_the_students_are_decoded_in_four_ways_unless_told() -> None:
    em = load_config(with_em()).em
    assert list(em.student.searches) == ["argmax", "remove", "odd", "parallel9"]
    assert em.student.searches["odd"].deduplicate == "odd"  # type: ignore[union-attr]
    assert list(em.teacher.searches) == ["beam5", "greedy"]
    # other objectives and other systems keep their own
    plain = {"students": {"v": {"objective": {"name": "vanilla"}}}}
    config = load_config(with_em(plain, student={"objective": {"name": "ctc"}}))
    assert list(config.em.student.searches) == ["collapse"]
    assert list(config.students["v"].searches) == ["argmax"]
    own = load_config(with_em(student={"searches": {"one": {"kind": "argmax"}}})).em
    assert list(own.student.searches) == ["one"]


@pytest.mark.parametrize(
    ("starts", "expected"),
    [
        ({}, {"em2-teacher", "em3-teacher"}),
        ({"teacher_start": "cold"}, set()),
        ({"student_start": "warm"}, {"em2-teacher", "em3-teacher", "em2", "em3"}),
        ({"student_start": "warm", "teacher_start": "cold"}, {"em2", "em3"}),
    ],
)
def test_who_goes_on_from_the_iteration_before(starts: dict[str, Any], expected: set[str]) -> None:
    raw = with_em(student={"training": {"warm_start": "teacher_encoder"}, "model": {"ffn": 200}}, **starts)
    systems = load_config(raw).systems
    loop = {name: system for name, system in systems.items() if em_iteration(name)}
    assert {name for name, system in loop.items() if system.training.warm_start == "previous"} == expected
    assert loop["em1"].training.warm_start == "teacher_encoder"


def test_the_loop_has_the_seeds_of_its_student() -> None:
    config = load_config(with_em())
    assert config.seeds_of("em2") == config.seeds_of("em2-teacher") == [4, 5]
    config = load_config(with_em(student={"seeds": [7, 8]}))
    assert config.seeds_of("em1") == config.seeds_of("em3-teacher") == [7, 8]
    assert config.seeds_of("teacher") == [4, 5]
    assert load_config({**BASE, "teacher": {**BASE["teacher"], "checkpoint": "x"}}).seeds_of("teacher") == [4]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            with_em({"students": {"em1": {"objective": {"name": "ctc"}}}}),
            "students.em1: this name is one of the EM loop's",
        ),
        (
            {**BASE, "students": {"em2-teacher": {"objective": {"name": "ctc"}}}},
            "students.em2-teacher: this name is one of the EM loop's",
        ),
        (
            {**BASE, "students": {"x": {"objective": {"name": "ctc"}, "data": "em"}}},
            "students.x.data: em is made by the EM loop; use raw or distilled",
        ),
        (
            {**BASE, "students": {"x": {"objective": {"name": "ctc"}, "data": "selected"}}},
            "students.x.data: selected is made by the EM loop",
        ),
        (
            {**BASE, "students": {"x": {"objective": {"name": "ctc"}, "data": "references"}}},
            "students.x.data: references leaves out the pairs that an EM loop holds out, and none runs; use raw",
        ),
        (
            {**BASE, "students": {"x": {"objective": {"name": "ctc"}, "training": {"warm_start": "previous"}}}},
            "students.x.training.warm_start: set em.student_start: warm or em.teacher_start: warm instead",
        ),
        (
            with_em(student={"training": {"warm_start": "previous"}}),
            "em.student.training.warm_start: set em.student_start: warm",
        ),
        (
            with_em(student={"searches": {"nine": {"kind": "length_parallel"}, "a": {"kind": "argmax"}}}),
            "em.student.searches.nine: the first search validates the training, where there is no teacher and no table",
        ),
        (
            with_em(teacher={"model": {"d_model": 32}}),
            "em.teacher.model.d_model: em.teacher_start warm needs 64, found 32",
        ),
        (
            with_em(student={"training": {"warm_start": "teacher_encoder"}}),
            "em.student.model.ffn: warm_start teacher_encoder needs the teacher's 200, found 96",
        ),
        (
            with_em(student={"model": {"max_length": 16}}),
            "em.student.model.max_length: it scores the teacher's outputs: needs at least the teacher's 256 tokens",
        ),
        (
            with_em(teacher_start="cold", teacher={"model": {"max_length": 300}}),
            "em.teacher.model.max_length: the first teacher scores its outputs: at most that one's 256 tokens",
        ),
        (with_em(student={"checkpoint": "x"}), "em.student.checkpoint: the loop trains its systems; remove it"),
        (with_em(teacher={"checkpoint": "x"}), "em.teacher.checkpoint: the loop trains its systems; remove it"),
        (with_em(student={"data": "distilled"}), "em.student.data: the loop's systems have its own texts; remove it"),
        (with_em(teacher={"seeds": [1]}), "em.teacher.seeds: the loop has the seeds of em.student; remove it"),
        (with_em(student={"seeds": [1, 1]}), "em.student.seeds: [1, 1] repeats a seed"),
        (with_em(student={"objective": {"name": "autoregressive"}}), "em: student must be a parallel system"),
        (with_em(teacher={"objective": {"name": "ctc"}}), "em: teacher must be autoregressive, not ctc"),
        (with_em(token_bonus=2), "em: token_bonus is of choose_by: posterior, found choose_by: parallel"),
        (with_em(choose_by="difference", posterior_weight=0), "em: posterior_weight is of choose_by: posterior"),
        (with_em(choose_by="posterior", token_bonus=2, normalise=True), "em: token_bonus adds the same to all"),
        (with_em(choose_by="paralel"), "em.choose_by: unknown value 'paralel'; did you mean parallel?"),
        (
            with_em({"evaluation": {"baselines": {"teacher": "em1/od"}}}),
            "evaluation.baselines.teacher: em1 has no search 'od'; did you mean odd?",
        ),
        (
            with_em({"evaluation": {"baselines": {"em2": "teacher"}}}),
            "evaluation.baselines.em2: the EM loop may end before em2, so that nothing can be said of it here; name",
        ),
        (
            with_em({"evaluation": {"baseline": "em3-teacher"}}),
            "evaluation.baseline: the EM loop may end before em3-teacher, so that nothing",
        ),
        (
            with_em({"evaluation": {"baseline": "em4"}}),
            "evaluation.baseline: no system is named 'em4'; did you mean em1?",
        ),
        (
            with_em({"distillation": {"engine": "ctranslate2"}}, candidates=1),
            "em.candidates: distillation.engine ctranslate2 has beams of two and more, found 1; raise it, or set",
        ),
        (with_em(itrations=2), "em.itrations: unknown key; did you mean iterations?"),
        (with_em({"students": {"em²": {"objective": {"name": "ctc"}}}}), "students.em²: 'em²' is not allowed here"),
    ],
)
def test_one_problem(raw: dict[str, Any], expected: str) -> None:
    found = problems(raw)
    assert len(found) == 1, found
    assert found[0].startswith(expected)


@pytest.mark.parametrize(
    "raw",
    [
        with_em(iterations=0, teacher={"model": {"d_model": 32}, "seeds": [1]}, student={"checkpoint": "x"}),
        with_em(iterations=1, teacher={"model": {"d_model": 32}}),
        with_em({"distillation": {"engine": "ctranslate2"}}, candidates=1, iterations=1),
        with_em({"distillation": {"engine": "ctranslate2"}}, candidates=1, precision="bfloat16"),
        with_em(teacher_start="cold", teacher={"model": {"d_model": 32}}),
        with_em(teacher={"model": {"dropout": 0.3}}),
        with_em(student={"searches": {"one": {"kind": "length_parallel", "rescore": False}}}),
        with_em(student={"searches": {"a": {"kind": "argmax"}, "nine": {"kind": "length_parallel"}}}),
    ],
    ids=[
        "no loop",
        "one iteration",
        "no candidates",
        "candidates by torch",
        "cold",
        "dropout",
        "own choice",
        "second search",
    ],
)
def test_what_does_no_harm_is_allowed(raw: dict[str, Any]) -> None:
    load_config(raw)
