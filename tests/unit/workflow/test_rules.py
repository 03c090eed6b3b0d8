"""The rules are wiring: each names its script, has a message, and no file with rules defines a function. Each has as a
parameter what files hold that a run is given."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retort.config import resolve
from retort.workflow.contents import given_files
from retort.workflow.plan import Plan
from retort.workflow.wiring import of_job

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "rules").glob("*.smk"))
BLOCKS = {
    match["a"] or match["b"]: match["body"]
    for path in FILES
    for match in re.finditer(
        r"^(?:(?:rule|checkpoint) (?P<a>\w+):|use rule \w+ as (?P<b>\w+) with:)\n(?P<body>(?:    .*\n|\n)+)",
        path.read_text(),
        re.MULTILINE,
    )
}
BASES = {
    rule: base
    for path in FILES
    for base, rule in re.findall(r"^use rule (\w+) as (\w+) with:", path.read_text(), re.MULTILINE)
}
"""The rules that others are made from."""
RUNS = {"DECODING": "{{system}}/seed{{seed}}/{{search}}", "TRAINING": "{{system}}/seed{{seed}}"}


@pytest.mark.parametrize("rule", BLOCKS)
def test_each_rule_says_what_it_does(rule: str) -> None:
    message = re.search(r'^    message:\n        "([A-Z][^"]*[^".])"\n', BLOCKS[rule], re.MULTILINE)
    assert message, f"{rule}: a message in the present tense"
    used = re.findall(r"{wildcards\.(\w+)}", message[1])
    assert set(re.findall(r"{([^}]*)}", message[1])) == {f"wildcards.{name}" for name in used}
    output = re.search(r"^    log:\n.*\n", BLOCKS[rule], re.MULTILINE)
    assert output, f"{rule}: a log"
    log = re.sub("{(DECODING|TRAINING)}", lambda match: RUNS[match[1]], output[0])
    assert set(used) <= set(re.findall(r"{{(\w+)}}", log)), f"{rule}: the wildcards of its log"


def test_a_script_has_the_name_of_a_rule() -> None:
    named = {name for body in BLOCKS.values() for name in re.findall(r'script=script\("(\w+)"\)', body)}
    assert named == {path.stem for path in (ROOT / "workflow_scripts").glob("*.py")}
    assert named - {"train_system"} <= set(BLOCKS)


def test_rules_and_functions_are_apart() -> None:
    for path in FILES:
        text = path.read_text()
        assert not (re.search(r"^rule ", text, re.MULTILINE) and re.search(r"^ *def ", text, re.MULTILINE)), path.name
    assert len(BLOCKS) > 30


def test_the_stages_are_on_one_page() -> None:
    assert len((ROOT / "Snakefile").read_text().splitlines()) < 100


R = "results/given"


def given_plans(directory: Path) -> list[Plan]:
    """Runs that are given all that a run can be given: of a teacher of this run, and of an external one."""
    (directory / "program").write_text("")
    program, text, target = str(directory / "program"), [{"location": "text"}], [{"location": "target"}]
    pair = {"source": text, "target": target}
    counted = {"kind": "ctc_beam", "ngrams": {"texts": text}}
    students = {
        "given": {"objective": {"name": "ctc"}, "checkpoint": "checkpoint", "searches": {"n": counted}},
        "table": {"objective": {"name": "ctc"}, "searches": {"n": {"kind": "ctc_beam", "table": "table"}}},
        "rescored": {"objective": {"name": "vanilla"}, "searches": {"r": {"kind": "length_parallel"}}},
    }
    raw: dict[str, Any] = {
        "name": "given",
        "corpus": {"kind": "text", "train": pair, "valid": {"source": target, "target": text}, "tests": {"test": pair}},
        "vocabulary": {"path": "vocabulary"},
        "evaluation": {"learned": {"COMET": {"command": [program]}}},
    }
    own = {"objective": {"name": "autoregressive"}, "checkpoint": "teacher"}
    external = {"kind": "command", "arguments": [program], "streams": True}
    source_alone = {**raw["corpus"], "train": {"source": text}, "valid": {"source": target}}
    plans: list[dict[str, Any]] = [
        {"teacher": own, "students": students, "em": {"iterations": 2}, "pretraining": {"texts": text}},
        {"external_teacher": external, "students": {name: students[name] for name in ("given", "table")}},
        {"external_teacher": external, "students": {"given": students["given"]}, "corpus": source_alone},
        {"distillation": {"corpus": "distilled"}, "students": {"ctc": {"objective": {"name": "ctc"}}}},
    ]
    return [Plan(resolve({**raw, **changes}), R, lambda iteration: {1: ""}) for changes in plans]


def jobs_of(plan: Plan) -> Iterator[SimpleNamespace]:
    """Wildcards of all jobs that any rule could have, and of some that none has."""
    runs = [(run.system, str(run.seed), run.search) for run in plan.decodings()]
    tables, texts = list(plan.ngrams.counted()) or [""], list(plan.layout.texts())
    for (system, seed, search), table, data in product(runs, tables, texts):
        yield SimpleNamespace(
            system=system, seed=seed, search=search, table=table, data=data, iteration="2", metric="COMET", top_k="1",
            scatteritem="1-of-2",
        )  # fmt: skip


@pytest.fixture(scope="module")
def given_to(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The methods of plan and layout that have files which no rule makes, of those that inputs are made with."""
    named = {name for rule in BLOCKS for name in methods(rule, "input")}
    given = set()
    for plan in given_plans(tmp_path_factory.mktemp("given")):
        for name in named:
            method = of_job(attrgetter(name)(SimpleNamespace(plan=plan, layout=plan.layout)))
            for job in jobs_of(plan):
                with suppress(LookupError, StopIteration, AttributeError):  # no job of this rule
                    if list(given_files([method(job)], R)):
                        given.add(name)
    return given


def section_of(rule: str, name: str) -> str:
    """A section of a rule, or of the one that it is made from."""
    found = re.search(rf"^    {name}:\n((?:        .*\n)+)", BLOCKS[rule], re.MULTILINE)
    return found[1] if found else section_of(BASES[rule], name) if rule in BASES else ""


def methods(rule: str, section: str) -> set[str]:
    """The methods of plan and layout that are named in a section."""
    return set(re.findall(r"\b(?:plan|layout)(?:\.\w+)+", section_of(rule, section)))


@pytest.mark.parametrize("rule", BLOCKS)
def test_what_is_in_a_file_that_no_rule_makes_is_a_parameter(rule: str, given_to: set[str]) -> None:
    """Without it a file that is replaced by one with an older date re-runs nothing."""
    contents = re.search(r"^        contents=contents_of\((.*)\),$", section_of(rule, "params"), re.MULTILINE)
    if not contents and rule in BASES:
        contents = re.search(
            r"^        contents=contents_of\((.*)\),$", section_of(BASES[rule], "params"), re.MULTILINE
        )
    named = set(contents[1].split(", ")) if contents else set()
    assert methods(rule, "input") & given_to <= named


def test_given_files_are_known(given_to: set[str]) -> None:
    assert {
        "plan.corpus_texts", "plan.ngrams.texts", "plan.ngrams.files_of", "plan.learned_files", "plan.given_outputs",
        "plan.files_about_tests", "plan.timed_external_files", "plan.rescoring_files", "plan.training_files",
        "layout.vocabulary", "layout.checkpoint", "plan.checkpoints", "plan.candidate_checkpoint",
    } <= given_to  # fmt: skip
    assert not given_to & {"plan.translations", "plan.scores", "layout.text", "plan.timed_tuned_files"}
