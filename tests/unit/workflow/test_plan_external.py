"""The plan of a run with an external teacher: which files rules read, and what jobs are given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from retort.config import ExternalTeacher, resolve
from retort.data.runs import Run
from retort.workflow.modules import Modules
from retort.workflow.options import Options
from retort.workflow.plan import Plan

R = "results/small"
COMMAND = {"kind": "command", "arguments": ["cat"], "streams": True}
CTC = {"objective": {"name": "ctc"}, "data": "distilled"}
TEXT, VALID = {"source": [{"location": "a"}]}, {"source": [{"location": "v"}]}


def planned(**sections: Any) -> Plan:
    base = {"name": "small", "corpus": {"kind": "generated"}, "external_teacher": COMMAND, "students": {"ctc": CTC}}
    return Plan(resolve({**base, **sections}), R, lambda iteration: {})


def test_the_external_teacher_is_a_scored_and_timed_system_and_the_baseline() -> None:
    plan = planned()
    outputs = f"{R}/translations/external/seed0/command.parquet"
    assert plan.external() == [Run("external", 0, "command")]
    assert plan.baseline() == plan.translations()[0] == outputs
    assert plan.scores()[0] == f"{R}/scores/external/seed0/command.parquet"
    assert plan.scores(["ctc"]) == [f"{R}/scores/ctc/seed1/collapse.parquet"]
    assert plan.given_outputs() == [f"{R}/distilled/external/judged.parquet"]
    options = Options(plan)
    timed = options.timed_external()
    assert timed[0] == "--external" and timed[2:] == ["--vocabulary", f"{R}/vocabulary"]
    assert options.data("external") == "external"
    assert "retort.teachers.command" in Modules(plan).latency() and Modules(plan).asking() == {
        "retort.teachers.command"
    }


def test_the_report_has_the_lengths_of_text_that_the_vocabulary_may_not_know() -> None:
    encoded, distilled = f"{R}/encoded/encoding.parquet", f"{R}/distilled/encoding.parquet"
    assert planned().encodings() == [encoded, distilled]
    assert planned(external_teacher=None, distillation={"corpus": "d.parquet"}).encodings() == [encoded, distilled]
    assert planned(students={"raw": {"objective": {"name": "ctc"}}}).encodings() == [encoded]
    own = {"objective": {"name": "autoregressive"}}
    assert planned(external_teacher=None, teacher=own).encodings() == [encoded]


def test_what_cannot_be_timed_or_scored_is_not() -> None:
    silent = planned(external_teacher={**COMMAND, "streams": False})
    assert silent.external() and not Options(silent).timed_external() and not silent.timed_external_files()
    table = planned(external_teacher={"kind": "table", "path": "a.tsv"})
    assert not table.external() and table.baseline() == f"{R}/translations/ctc/seed1/collapse.parquet"
    assert table.given_outputs() and not planned(students={"raw": {"objective": {"name": "ctc"}}}).judgement()
    assert planned(external_teacher=None, distillation={"corpus": "d.parquet"}).given_outputs() == ["d.parquet"]


def test_answers_depend_on_what_is_asked_and_judgements_on_how_they_are_judged() -> None:
    options, other = (
        Options(planned(external_teacher={**COMMAND, **keys}))
        for keys in ({}, {"jobs": 3, "lines": 5, "filters": {"copied": None}})
    )
    asked = options.asked_about_training()
    assert asked == other.asked_about_training() and options.judging() != other.judging()
    assert json.loads(asked) == {"kind": "command", "arguments": ["cat"], "streams": True, "outputs": 1}
    assert options.asked_about_tests() == options.asked_about_held_out() == asked


OPENAI = {"kind": "openai", "base_url": "http://localhost:1/v1", "model": "m", "prompt": "{source}"}


@pytest.mark.parametrize(
    ("teacher", "timing", "other"),
    [
        ({"kind": "ctranslate2", "path": "m"}, [{"device": "auto"}, {"batch_tokens": 64}], {}),
        ({"kind": "transformers", "model": "m"}, [{"device": "cpu"}, {"batch_tokens": 64}], {}),
        # the requests in flight, and the lines of one exchange
        (OPENAI, [{"concurrency": 1}], {"retries": 2, "timeout": 5}),
        (COMMAND, [{"lines": 1}], {"timeout": 5}),
    ],
)
def test_times_depend_on_how_it_is_asked_and_answers_do_not(
    teacher: dict[str, Any], timing: list[dict[str, Any]], other: dict[str, Any]
) -> None:
    usual, *timed, same = (Options(planned(external_teacher={**teacher, **keys})) for keys in ({}, *timing, other))
    assert len({each.timed_about_tests() for each in (usual, *timed)}) == 1 + len(timing)
    assert len({each.asked_about_tests() for each in (usual, *timed, same)}) == 1
    assert usual.timed_about_tests() == same.timed_about_tests()


def test_keys_that_change_times_are_of_those_that_change_no_answer() -> None:
    kinds = get_args(get_args(ExternalTeacher)[0])
    assert len(kinds) > 1 and all(kind.timing_keys <= kind.local_keys for kind in kinds)


def test_without_an_external_teacher_nothing_is_asked_or_timed() -> None:
    options = Options(planned(external_teacher=None, teacher={"objective": {"name": "autoregressive"}}))
    assert options.timed_about_tests() == options.asked_about_tests() == "null"


def test_answers_of_a_table_depend_on_the_table_of_their_split_alone() -> None:
    one, other = (
        planned(external_teacher={"kind": "table", "path": "a.tsv", "held_out": {"valid": "v.tsv", "test": test}})
        for test in ("t.tsv", "u.tsv")
    )
    assert one.files_about_training() == other.files_about_training() == ["a.tsv"]
    assert (one.files_about_tests(), other.files_about_tests()) == (["t.tsv"], ["u.tsv"])
    assert Options(one).asked_about_training() == Options(other).asked_about_training()
    assert Options(one).asked_about_tests() != Options(other).asked_about_tests()


def test_files_of_directories_are_inputs_one_by_one(tmp_path: Path) -> None:
    for name in ("model.bin", "config.json"):
        (tmp_path / name).write_text("")
    plan = planned(external_teacher={"kind": "ctranslate2", "path": str(tmp_path)})
    assert (
        plan.files_about_training()
        == plan.files_about_tests()
        == [str(tmp_path / "config.json"), str(tmp_path / "model.bin")]
    )


def test_splits_without_references_are_prepared_apart_and_filled() -> None:
    corpus = {"kind": "text", "train": TEXT, "valid": VALID, "tests": {"test": TEXT}}
    plan = planned(corpus=corpus)
    assert plan.layout.prepared("train.parquet") == f"{R}/sources/train.parquet"
    assert plan.layout.filled("train.parquet") == f"{R}/corpus/train.parquet"
    assert plan.held_out_sources() == [f"{R}/sources/valid.parquet", f"{R}/sources/test.test.parquet"]
    assert Options(plan).vocabulary_outputs() == ["--outputs", f"{R}/distilled/external/judged.parquet"]
    target = {"target": [{"location": "b"}]}
    plan = planned(corpus={**corpus, "valid": {**VALID, **target}, "tests": {"test": {**TEXT, **target}}})
    assert plan.layout.prepared("train.parquet") == f"{R}/corpus/train.parquet" and not plan.held_out_sources()
    assert plan.vocabulary_outputs() and not planned().vocabulary_outputs()
    given: dict[str, Any] = {"external_teacher": None, "distillation": {"corpus": "d.parquet"}}
    assert planned(corpus=corpus, **given).vocabulary_outputs() == ["d.parquet"]
    assert not planned(**given).vocabulary_outputs()
