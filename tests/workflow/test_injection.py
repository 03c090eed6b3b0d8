"""Whatever stands in a configuration, each rule's shell calls one program, with the values as they are.

The commands of dry runs are given to a shell in which python is a function that notes its arguments.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from retort.config.checks.files import PARQUET
from retort.config.load import load_config
from retort.errors import RetortError
from retort.filenames import CHECKPOINT_FILES, MODEL_DESCRIPTION, VOCABULARY_MODELS
from tests.workflow.checkouts import ROOT, TINY, TINY_EM, Checkout, copy_checkout

pytestmark = pytest.mark.workflow

NASTY = 'it\'s "quoted" $(touch executed) `touch executed` $HOME $0 \\ %s\n; touch executed & touch executed\n#*?~! -x'
# A path must not hold braces, which Snakemake takes for wildcards; other values may.
TITLE = NASTY + " {x} {{y}} ${HOME}"
SEARCHES = {"a": {"kind": "argmax"}, "n": {"kind": "length_parallel"}}
STUB = """set -euo pipefail
python() { printf '%s\\0' "$@" > arguments; echo x >> calls; }
"""


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with files at paths that are made to be misread, one of them outside."""
    checkout = copy_checkout(tmp_path_factory.mktemp("nasty") / "checkout")
    files_of = {
        "model": CHECKPOINT_FILES.values(),
        "student": CHECKPOINT_FILES.values(),
        "vocabulary": VOCABULARY_MODELS.values(),
        "text": ("a", "b"),
    }
    for directory, files in files_of.items():
        path = checkout.path / ".." / f"{directory} {NASTY}"
        path.mkdir()
        for name in files:
            (path / name).write_text("x\n" * 100)  # twice em.held_out
    for directory, objective in (("model", "autoregressive"), ("student", "vanilla")):
        description = {"objective": {"name": objective}, "model": TINY["model"]}
        (checkout.path / outside(directory) / MODEL_DESCRIPTION).write_text(json.dumps(description))
    (checkout.path / f"distilled {NASTY}").write_bytes(PARQUET)
    return checkout


def outside(directory: str) -> str:
    return f"../{directory} {NASTY}"


def text_corpus() -> dict[str, Any]:
    pair = {side: [{"location": f"{outside('text')}/{name}"}] for side, name in (("source", "a"), ("target", "b"))}
    swapped = {"source": pair["target"], "target": pair["source"]}
    return {"kind": "text", "train": pair, "valid": swapped, "tests": {"t": pair}, "mirror": outside("text")}


def commands(checkout: Checkout, config: dict[str, Any], *targets: str) -> dict[str, str]:
    """The longest shell command of every rule that would run."""
    name = checkout.configure(config, "nasty.yaml")
    output = checkout.snakemake("--dry-run", "-p", *targets, "--configfile", name)
    blocks = re.split(r"^\[\w{3} \w{3} .*\]\n", output.partition("\nJob stats:\njob ")[2], flags=re.MULTILINE)
    found: dict[str, str] = {}
    for block in blocks:
        rule = re.match(r"(?:localrule|rule|checkpoint) (\w+):", block)
        block = re.split(r"^(?:Job stats:|DAG of jobs will be updated)", block, flags=re.MULTILINE)[0]
        command = re.search(r"^Shell command: (.*)", block, flags=re.DOTALL | re.MULTILINE)
        if rule and command and command[1].strip() != "None":
            found[rule[1]] = max(found.get(rule[1], ""), command[1].rstrip(), key=len)
    return found


def arguments(command: str, directory: Path) -> list[str]:
    """What python is given by a shell that runs the command; whatever else ran would have left a file."""
    words = shlex.split(command)
    assert words[-2] in (">", "2>")
    (directory / words[-1]).parent.mkdir(parents=True, exist_ok=True)
    (directory / "results/nasty/report").mkdir(parents=True, exist_ok=True)
    (directory / "calls").write_text("")
    subprocess.run(["bash", "-c", f"{STUB}{command}"], cwd=directory, check=True, env=os.environ | {"HOME": "/home"})
    assert not list(directory.rglob("executed"))
    assert (directory / "calls").read_text() in ("x\n", "")
    if not (directory / "calls").read_text():
        return []
    return (directory / "arguments").read_bytes().decode().split("\0")[:-1]


def values(words: list[str]) -> list[str]:
    """The arguments, and the strings in those that are JSON."""
    found = []
    for word in words:
        found.append(word)
        try:
            waiting = [json.loads(word)] if word.startswith(("{", "[")) else []
        except ValueError:
            waiting = []
        while waiting:
            value = waiting.pop()
            found += [value] if isinstance(value, str) else []
            waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return found


def all_rules() -> set[str]:
    """The rules that have a shell command."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    return {a or b for a, b in re.findall(r"^(?:(?:rule|checkpoint) (\w+):|use rule \w+ as (\w+) with:)", text, re.M)}


def test_each_rule_calls_one_program_with_the_values_as_they_are(nasty: Checkout, tmp_path: Path) -> None:
    em = {**TINY_EM, "name": "nasty", "report": {"title": TITLE}, "corpus": text_corpus()}
    given = {
        **em,
        "teacher": {**em["teacher"], "checkpoint": outside("model")},
        "vocabulary": {"path": outside("vocabulary")},
        "students": {
            "v": {"objective": {"name": "vanilla"}, "searches": SEARCHES},
            "r": {"objective": {"name": "vanilla"}, "data": "references"},
        },
    }
    table = {**TINY, "name": "nasty", "corpus": text_corpus(), "distillation": {"corpus": f"distilled {NASTY}"}}
    started = {
        **TINY,
        "name": "nasty",
        "corpus": text_corpus(),
        "vocabulary": {"path": outside("vocabulary")},
        "pretraining": {"texts": [{"location": f"{outside('text')}/a"}]},
        "students": {
            "v": {"objective": {"name": "vanilla"}, "data": "interpolated", "training": {"warm_start": "pretrained"}},
            "d": {"objective": {"name": "vanilla"}, "data": "distilled", "checkpoint": outside("student")},
            "m": {
                "objective": {"name": "ctc"},
                "data": "mixed",
                "mixture": {"kind": "selective", "evaluator": "d"},
            },
        },
    }
    labels = {"name": "imitation", "labels": "stored", "top_k": 4, "beta": {"schedule": "constant", "share": 1}}
    measured = {
        **TINY,
        "name": "nasty",
        "corpus": text_corpus(),
        "vocabulary": {"path": outside("vocabulary")},
        "teacher": {**TINY["teacher"], "checkpoint": outside("model")},
        "students": {"k": {"objective": labels}},
        "evaluation": {
            "exposure": {"systems": ["k"]},
            "length_buckets": [3, 6],
            "learned": {"judge": {"command": ["python3", outside("text")]}},
        },
    }
    pair = text_corpus()["train"]
    untranslated = {"source": pair["source"]}
    asked = {
        **{key: value for key, value in TINY.items() if key != "teacher"},
        "name": "nasty",
        "corpus": {**text_corpus(), "train": untranslated, "tests": {"t": pair, "u": untranslated}},
        "external_teacher": {"kind": "command", "arguments": ["python3", outside("text")]},
        "students": {
            "c": {
                "objective": {"name": "ctc"},
                "data": "distilled",
                "searches": {"collapse": {"kind": "ctc_collapse"}, "ngrams": {"kind": "ctc_beam"}},
                "tune": {"collapse": {"blank_penalty": [0.0, 0.5]}},
            }
        },
    }
    plans = [
        commands(nasty, given),
        commands(nasty, em, "results/nasty/em/iteration2/seed1/train.parquet"),
        commands(nasty, table),
        commands(nasty, started, "students"),
        commands(nasty, measured),
        commands(nasty, asked),
    ]
    seen = [{rule: arguments(command, tmp_path) for rule, command in plan.items()} for plan in plans]
    assert set().union(*seen) == all_rules()

    checkpoint, vocabulary = outside("model"), outside("vocabulary")
    for rule in ("decode_shard", "translate", "decode_candidates", "select_candidates", "check_iteration"):
        assert checkpoint in values(seen[0][rule]), rule
    for rule in ("encode_corpus", "train_student", "gather_distilled", "gather_first"):
        assert vocabulary in seen[0][rule], rule
    for plan in (seen[0], seen[1], seen[2]):
        assert {f"{outside('text')}/a", f"{outside('text')}/b", outside("text")} <= set(values(plan["prepare_corpus"]))
    assert f"distilled {NASTY}" in seen[2]["gather_distilled"]
    assert f"{outside('text')}/a" in values(seen[3]["prepare_monolingual"])
    for rule in ("prepare_monolingual", "pretrain", "gather_interpolated", "gather_mixed"):
        assert vocabulary in seen[3][rule], rule
    assert outside("student") in seen[3]["measure_agreement"]
    assert checkpoint in values(seen[4]["label_shard"])
    assert checkpoint in values(seen[4]["measure_exposure"])
    assert outside("text") in values(seen[4]["score_learned"])


def test_the_written_configuration_is_the_configuration(nasty: Checkout, tmp_path: Path) -> None:
    config = {**TINY, "name": "nasty", "report": {"title": TITLE}}
    command = commands(nasty, config, "report")["write_config"]
    arguments(command.rpartition(" 2> ")[0] + " 2> errors", tmp_path)
    assert json.loads((tmp_path / "results/nasty/config.json").read_text())["report"]["title"] == TITLE


@pytest.mark.parametrize("name", ["a b", "$(touch executed)", "..", "../up", "-x", "a\nb", "a'b", ".hidden", "a/b", ""])
def test_names_that_become_paths_are_checked(name: str) -> None:
    student = {"objective": {"name": "vanilla"}}
    searches = {name: {"kind": "argmax"}}
    for config in (
        {"name": name},
        {"students": {name: student}},
        {"students": {"s": {**student, "searches": searches}}},
    ):
        with pytest.raises(RetortError, match="problem"):
            load_config({**TINY, **config}, "test.yaml")
    load_config({**TINY, "students": {"s.1-a_b": student}}, "test.yaml")
