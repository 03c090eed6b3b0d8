"""Systems that start from the weights of another system of the run."""

import pytest

from retort.config.load import load_config
from retort.errors import RetortError

BASE = {
    "name": "n",
    "corpus": {"kind": "generated"},
    "teacher": {"objective": {"name": "autoregressive"}},
}
AUTOREGRESSIVE, IMITATION, CTC, CMLM, OAXE = (
    {"objective": {"name": name}} for name in ("autoregressive", "imitation", "ctc", "cmlm", "oaxe")
)


STORED = {"name": "imitation", "labels": "stored", "top_k": 4, "beta": {"schedule": "constant", "share": 1}}


def starting(system, start, **changes):
    return {**system, "training": {"warm_start": start}, **changes}


def problems(**students):
    try:
        load_config({**BASE, "students": students})
    except RetortError as error:
        return str(error).splitlines()[1:-1]
    return []


@pytest.mark.parametrize(
    "students",
    [
        {"a": AUTOREGRESSIVE, "b": starting(IMITATION, "a", data="interpolated"), "c": starting(AUTOREGRESSIVE, "b")},
        {"a": starting(AUTOREGRESSIVE, "teacher", model={"dropout": 0.4})},
        {"a": CTC, "b": starting(CTC, "a")},
        {"a": CMLM, "b": starting(OAXE, "a")},
        {
            "a": {**CTC, "model": {"d_model": 64, "heads": 4}},
            "b": starting(CTC, "a", model={"d_model": 64, "heads": 4}),
        },
    ],
)
def test_any_system_of_the_family_and_shape_can_be_the_start(students):
    assert problems(**students) == []


@pytest.mark.parametrize(
    ("students", "expected"),
    [
        ({"sekqd": starting(CTC, "seqkd")}, "no system is named 'seqkd'; did you mean sekqd?"),
        ({"a": starting(CTC, "a")}, "a starts from a; one of them must start from something else"),
        (
            {"a": CTC, "b": starting(AUTOREGRESSIVE, "a")},
            "a model trained as autoregressive cannot start from one of ctc",
        ),
        (
            {"a": AUTOREGRESSIVE, "b": starting(AUTOREGRESSIVE, "a", model={"decoder_layers": 2})},
            "students.b.model.decoder_layers: warm_start a needs 4, found 2",
        ),
        (
            {"a": starting(CTC, "teacher_encoder", model={"tied": "output"})},
            "students.a.model.tied: warm_start teacher_encoder needs the teacher's 'all', found 'output'",
        ),
        (
            {"a": CMLM, "b": starting({"objective": {"name": "oaxe", "length_from": "slot"}}, "a")},
            "students.b.objective.length_from: warm_start a needs 'mean', found 'slot'",
        ),
        (
            {"a": CMLM, "b": starting({"objective": {"name": "vanilla", "deep_supervision": True}}, "a")},
            "students.b.objective.deep_supervision: warm_start a needs False, found True",
        ),
    ],
)
def test_other_starts_are_one_problem(students, expected):
    (problem,) = problems(**students)
    assert expected in problem


@pytest.mark.parametrize(
    ("student", "what"),
    [
        ({"objective": {"name": "vanilla", "teacher_weight": 0.5}}, "labels its text"),
        (IMITATION, "labels its text"),
        ({"objective": STORED}, "labels its text"),
        (
            {"objective": "vanilla", "searches": {"a": {"kind": "argmax"}, "nine": {"kind": "length_parallel"}}},
            "scores the candidates of nine",
        ),
    ],
)
def test_students_are_no_longer_than_the_teacher_that_they_ask(student, what):
    short = {"objective": {"name": "autoregressive"}, "model": {"max_length": 24}}
    with pytest.raises(RetortError) as caught:
        load_config({**BASE, "teacher": short, "students": {"s": student}})
    expected = f"students.s.model.max_length: the teacher {what}: at most that one's 24 tokens, found 256"
    assert expected in str(caught.value)
    load_config({**BASE, "teacher": short, "students": {"s": {**student, "model": {"max_length": 24}}}})


def test_what_learns_little_from_random_weights_starts_from_a_trained_system():
    (problem,) = problems(a=CMLM, b=OAXE)
    assert "oaxe starts from a trained system (such as a): name one, or set objective.warmup_share" in problem
    (problem,) = problems(b=starting({"objective": {"name": "nmla"}}, "teacher_encoder"))
    assert "nmla starts from a trained system: name one, or set objective.likelihood_weight above 0" in problem
    alone = {"objective": {"name": "oaxe", "warmup_share": 0.5}}
    assert problems(b=alone, c={"objective": {"name": "fuzzy_dag", "likelihood_weight": 1}}) == []


def test_systems_cannot_start_from_each_other():
    found = problems(a=starting(CTC, "b"), b=starting(CTC, "a"), c=starting(CTC, "a"))
    assert len(found) == 3 and "a starts from b starts from a" in found[0]


def test_an_evaluator_does_not_start_from_what_it_chooses_for():
    chosen = {"objective": "vanilla", "data": "mixed", "mixture": {"kind": "selective", "evaluator": "b"}}
    (problem,) = problems(a=chosen, b=starting({"objective": "vanilla"}, "a", data="distilled"))
    assert "students.b.training.warm_start: b starts from a whose evaluator is b; one of them must start" in problem
    assert problems(a={**chosen, "checkpoint": "x"}, b=starting({"objective": "vanilla"}, "a", data="distilled")) == []
    assert problems(a=chosen, b={"objective": "vanilla", "data": "distilled"}) == []


def test_the_teacher_starts_from_no_student():
    config = {**BASE, "teacher": starting(AUTOREGRESSIVE, "a"), "students": {"a": AUTOREGRESSIVE}}
    with pytest.raises(RetortError, match="teacher cannot start from itself"):
        load_config(config)
