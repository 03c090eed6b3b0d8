"""Given checkpoints are compared with the systems that use them by what they hold, not by their sections."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retort.config.load import load_config
from retort.data.ngrams import NgramModel
from retort.errors import RetortError

SMALL = {"d_model": 32, "heads": 2, "ffn": 64, "encoder_layers": 1, "decoder_layers": 1, "max_length": 64}
LABELS = {"name": "imitation", "labels": "stored", "top_k": 4, "beta": {"schedule": "constant", "share": 1}}
SECOND_OF_ONE = {"warm_start": "teacher", "start_encoder_layers": [2]}
RESCORED = {"a": {"kind": "argmax"}, "nine": {"kind": "length_parallel"}}


def give(directory: Path, objective: Any = "autoregressive", **model: Any) -> str:
    """A checkpoint's directory, whose model is ``SMALL`` but for these keys."""
    directory.mkdir()
    for name in ("model.safetensors", "source.model", "target.model"):
        (directory / name).write_bytes(b"x")
    objective = {"name": objective} if isinstance(objective, str) else objective
    (directory / "model.json").write_text(json.dumps({"objective": objective, "model": {**SMALL, **model}}))
    return str(directory)


def problems(
    files: bool = True, teacher: str | None = None, objective: Any = "autoregressive", **sections: Any
) -> list[str]:
    """Problems of a configuration with the model ``SMALL``; ``objective`` is the teacher's."""
    raw: dict[str, Any] = {"name": "n", "corpus": {"kind": "generated"}, "model": SMALL}
    raw["teacher"] = {"objective": objective, **({"checkpoint": teacher} if teacher else {})}
    try:
        load_config({**raw, **sections}, texts=files)
    except RetortError as error:
        return [line.strip() for line in str(error).splitlines()[1:-1]]
    return []


@pytest.mark.parametrize(
    ("model", "sections", "expected"),
    [
        (
            {"d_model": 64},
            {"students": {"s": {"objective": "ctc", "training": {"warm_start": "teacher_encoder"}}}},
            "students.s.model.d_model: warm_start teacher_encoder needs {}'s 64, found 32",
        ),
        (
            {},
            {"students": {"s": {"objective": "autoregressive", "training": SECOND_OF_ONE}}},
            "students.s.training.start_encoder_layers: names layer 2, and the start has 1",
        ),
        (
            {"decoder_layers": 2},
            {"em": {"iterations": 2}},
            "em.teacher.model.decoder_layers: em.teacher_start warm needs {}'s 2, found 1",
        ),
        (
            {"max_length": 24},
            {"students": {"s": {"objective": LABELS}}},
            "students.s.model.max_length: the teacher labels its text: at most that one's 24 tokens, found 64",
        ),
        (
            {"max_length": 24},
            {"students": {"s": {"objective": "vanilla", "searches": RESCORED}}},
            "students.s.model.max_length: the teacher scores the candidates of nine: at most that one's 24",
        ),
        ({"family": "gru"}, {}, "teacher.checkpoint: {} is recurrent; the teacher must be a Transformer"),
    ],
)
def test_a_given_teacher_is_compared_by_its_own_model(
    tmp_path: Path, model: dict[str, Any], sections: dict[str, Any], expected: str
) -> None:
    (problem,) = problems(teacher=give(tmp_path / "t", **model), **sections)
    assert problem.startswith(expected.format(tmp_path / "t"))


@pytest.mark.parametrize("trained", [1, 0.5])
def test_a_given_teacher_has_learnt_to_decode_from_left_to_right(tmp_path: Path, trained: float) -> None:
    """Whatever the configuration says of it."""
    teacher = give(tmp_path / "t", {"name": "bang", "nar_ratio": trained})
    found = problems(teacher=teacher, objective={"name": "bang", "nar_ratio": 0})
    message = f"teacher.checkpoint: {teacher} was trained in parallel alone, and the teacher decodes from left to"
    assert [problem.startswith(message) for problem in found] == [True] * (trained == 1)


def test_a_system_that_fits_its_given_teacher_alone_is_accepted(tmp_path: Path) -> None:
    teacher = give(tmp_path / "t", max_length=24, d_model=64)
    own = {"max_length": 24, "d_model": 64}
    students = {
        "warm": {"objective": "ctc", "model": own, "training": {"warm_start": "teacher_encoder"}},
        "labelled": {"objective": LABELS, "model": own},
    }
    em = {"iterations": 2, "teacher": {"model": own}, "student": {"model": own}}
    assert problems(teacher=teacher, students=students, em=em) == []
    # a stored configuration is read where its checkpoints may be gone
    assert problems(files=False, teacher=teacher, students=students, em=em) == []
    assert len(problems(students=students, em=em)) > 1, "none of it fits the configured teacher"


def test_outputs_of_a_longer_given_teacher_are_no_problem_of_the_loop(tmp_path: Path) -> None:
    student = {"searches": {"a": "argmax"}, "model": {"max_length": 32}}
    em = {"iterations": 2, "teacher_start": "cold", "student": student}
    assert problems(teacher=give(tmp_path / "t", max_length=512), em=em) == []


def test_a_given_start_is_compared_by_its_own_model_and_objective(tmp_path: Path) -> None:
    given = give(tmp_path / "a", {"name": "cmlm", "length_from": "slot"}, ffn=128)
    students: dict[str, Any] = {
        "a": {"objective": "cmlm", "checkpoint": given},
        "b": {"objective": "cmlm", "training": {"warm_start": "a"}},
    }
    assert problems(students=students) == [
        "students.b.objective.length_from: warm_start a needs 'slot', found 'mean'",
        f"students.b.model.ffn: warm_start a needs {given}'s 128, found 64",
    ]
    students["b"] |= {"objective": {"name": "cmlm", "length_from": "slot"}, "model": {"ffn": 128}}
    assert problems(students=students) == []


def test_given_pretraining_is_compared_by_its_own_model(tmp_path: Path) -> None:
    given = give(tmp_path / "p", "bart_janus", heads=4)
    student = {"objective": "janus", "training": {"warm_start": "pretrained"}}
    pretraining = {"block_tokens": 16, "system": {"objective": "bart_janus", "checkpoint": given}}
    assert problems(pretraining=pretraining, students={"s": student}) == [
        f"students.s.model.heads: warm_start pretrained needs {given}'s 4, found 2"
    ]


def test_a_given_evaluator_is_as_long_as_the_text_that_it_evaluates(tmp_path: Path) -> None:
    evaluator = {"objective": "ctc", "data": "distilled", "checkpoint": give(tmp_path / "e", "ctc", max_length=24)}
    student = {"objective": "vanilla", "data": "mixed", "mixture": {"kind": "selective", "evaluator": "e"}}
    assert problems(students={"e": evaluator, "s": student}) == [
        "students.s.model.max_length: e evaluates its text: at most that one's 24 tokens, found 64"
    ]
    assert problems(students={"e": evaluator, "s": {**student, "model": {"max_length": 24}}}) == []


def test_a_given_student_is_no_longer_than_the_teacher_that_scores_its_candidates(tmp_path: Path) -> None:
    student = {"objective": "vanilla", "checkpoint": give(tmp_path / "s", "vanilla", max_length=128)}
    assert problems(students={"s": {**student, "searches": RESCORED}}) == [
        "students.s.checkpoint: the teacher scores the candidates of nine: at most that one's 64 tokens, found 128"
    ]
    assert problems(students={"s": student}) == []


def test_a_checkpoint_is_a_vocabulary(tmp_path: Path) -> None:
    assert problems(vocabulary={"path": give(tmp_path / "t")}) == []


def test_a_given_vocabulary_is_joint_if_its_models_are_equal(tmp_path: Path) -> None:
    path = give(tmp_path / "v")
    assert problems(vocabulary={"path": path, "joint": False}, pretraining={"block_tokens": 16}) == []
    (tmp_path / "v/target.model").write_bytes(b"y")
    pretraining, tied = problems(vocabulary={"path": path}, pretraining={"block_tokens": 16})
    assert tied.startswith(f'model.tied: "all" needs one model for both sides, and those in {path} differ; set tied')
    assert pretraining == "vocabulary.path: pretraining has one text for both sides and needs a joint vocabulary"
    assert problems(vocabulary={"path": path}, model={**SMALL, "tied": "output"}) == []
    assert problems(files=False, vocabulary={"path": path}) == []


STARTED = {"objective": "autoregressive", "training": {"warm_start": "a"}}
SELECTIVE = {"objective": "vanilla", "data": "mixed", "mixture": {"kind": "selective", "evaluator": "a"}}
PRETRAINED = {"objective": "janus", "training": {"warm_start": "pretrained"}}


@pytest.mark.parametrize(
    ("given", "objective", "sections"),
    [
        ("teacher", "autoregressive", {"students": {"s": {"objective": "ctc", "data": "distilled"}}}),
        ("teacher", "autoregressive", {"students": {"s": {"objective": "autoregressive", "data": "interpolated"}}}),
        ("teacher", "autoregressive", {"students": {"s": {"objective": LABELS}}}),
        ("teacher", "autoregressive", {"students": {"s": {"objective": "vanilla", "searches": RESCORED}}}),
        ("teacher", "autoregressive", {"em": {"iterations": 1}}),
        ("students.a", "autoregressive", {"students": {"a": {}, "s": STARTED}}),
        ("students.a", "ctc", {"students": {"a": {"data": "distilled"}, "s": SELECTIVE}}),
        ("students.a", "vanilla", {"students": {"a": {"searches": RESCORED}}}),
        ("students.a", "ctc", {"students": {"a": {"searches": {"c": "ctc_collapse", "n": "ctc_beam"}}}}),
        ("pretraining.system", "bart_janus", {"pretraining": {"block_tokens": 16}, "students": {"s": PRETRAINED}}),
    ],
)
def test_what_is_used_with_a_given_vocabulary_has_that_vocabulary(
    tmp_path: Path, given: str, objective: str, sections: dict[str, Any]
) -> None:
    own, path = give(tmp_path / "v"), give(tmp_path / "c", objective)
    raw = {**copy.deepcopy(sections), **({"teacher": path} if given == "teacher" else {})}
    if given != "teacher":
        section, name = given.split(".")
        raw[section].setdefault(name, {}).update(objective=objective, checkpoint=path)
    assert problems(vocabulary={"path": own}, **raw) == []
    (tmp_path / "c/target.model").write_bytes(b"y")
    (tmp_path / "c/source.model").write_bytes(b"y")
    assert problems(vocabulary={"path": own}, **raw) == [
        f"{given}.checkpoint: {path} has another vocabulary than {own}, with whose tokens it is used; "
        f"give one with that vocabulary, or set vocabulary.path to {path}"
    ]
    assert problems(vocabulary={"path": path}, **raw) == []
    # the vocabulary that will be trained may be the same
    assert problems(**raw) == []


def test_a_given_system_that_nothing_uses_may_have_a_vocabulary_of_its_own(tmp_path: Path) -> None:
    own, teacher, student = give(tmp_path / "v"), give(tmp_path / "t"), give(tmp_path / "s", "vanilla")
    students: dict[str, Any] = {"s": {"objective": "vanilla", "checkpoint": student}, "r": {"objective": "ctc"}}
    for directory in (teacher, student):
        for name in ("source.model", "target.model"):
            (Path(directory) / name).write_bytes(directory.encode())
    assert problems(teacher=teacher, vocabulary={"path": own}, students=students) == []
    students["s"]["searches"] = RESCORED
    assert problems(teacher=teacher, vocabulary={"path": own}, students=students) == [
        f"teacher.checkpoint: {teacher} has another vocabulary than {student}, with whose tokens it is used; "
        f"give one with that vocabulary"
    ]


@pytest.mark.parametrize("content", [b"", b"text\n"])
def test_tables_of_another_format_are_named(tmp_path: Path, content: bytes) -> None:
    translations, ngrams = tmp_path / "d.parquet", tmp_path / "t.ngrams"
    for path in (translations, ngrams):
        path.write_bytes(content)
    searches = {"c": "ctc_collapse", "n": {"kind": "ctc_beam", "table": str(ngrams)}}
    sections: dict[str, Any] = {
        "distillation": {"corpus": str(translations)},
        "students": {"s": {"objective": "ctc", "data": "distilled", "searches": searches}},
    }
    corpus, table = problems(**sections)
    assert corpus.startswith(f"distillation.corpus: {translations} is no Parquet file; expected a translations table")
    assert table.startswith(f"students.s.searches.n.table: {ngrams} is no table of n-grams; expected one that a run")
    pq.write_table(pa.table({"id": [1]}), translations)
    ngrams.write_bytes(NgramModel.empty().to_bytes())
    assert problems(**sections) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "JSONDecodeError"),
        (b"[]", "TypeError"),
        (b"\xff", "UnicodeDecodeError"),
        (b"[" * 99_999, "RecursionError"),
        (b'{"objective": {"name": "autoregressive"}}', "KeyError: 'model'"),
        (b'{"objective": {"name": "ctcc"}, "model": {}}', "'ctcc' found using 'name' does not match any of"),
        (b'{"objective": {"name": "autoregressive"}, "model": {"heads": 0}}', "heads: Input should be greater than"),
    ],
)
def test_a_description_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    teacher = give(tmp_path / "t")
    (tmp_path / "t/model.json").write_bytes(content)
    (problem,) = problems(teacher=teacher, em={"iterations": 2})
    assert problem.startswith(f"teacher.checkpoint: {teacher}/model.json is no description of a model (")
    assert reason in problem and problem.endswith("copy the checkpoint again")
