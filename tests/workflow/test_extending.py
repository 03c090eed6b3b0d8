"""Every example of docs/extending.md, applied to a copy of the checkout and run there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.workflow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text()
EXAMPLES = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COPIED = ("retort", "tests/unit", "workflow_scripts", "docs", "rules", "config.schema.json", "pyproject.toml")


def blocks(example: str, language: str) -> list[str]:
    return [body for found, body in BLOCK.findall(EXAMPLES[example]) if found == language]


def configuration(example: str) -> dict[str, object]:
    (text,) = blocks(example, "yaml")
    section: dict[str, object] = yaml.safe_load(text)
    return section


def edited_files(example: str) -> list[str]:
    return [body.partition("\n")[0].removeprefix("--- ") for body in blocks(example, "diff")]


def edited(text: str, diff: str) -> str:
    """The file with a diff's hunks, which an @@ separates, each where its old lines are."""
    for hunk in re.split(r"^@@.*\n", diff, flags=re.MULTILINE):
        lines = [line or " " for line in hunk.splitlines()]
        old, new = ("".join(f"{x[1:]}\n" for x in lines if x[0] in kept) for kept in (" -", " +"))
        assert text.count(old) == 1, f"these lines should be in the file, once:\n{old}"
        text = text.replace(old, new)
    return text


def apply(example: str, checkout: Path) -> list[str]:
    """Write and edit the files of an example; returns their names."""
    names = []
    for body in blocks(example, "python"):
        name = body.partition("\n")[0].removeprefix("# ")
        assert not (checkout / name).exists()
        (checkout / name).write_text(body.partition("\n")[2])
        names.append(name)
    for body in blocks(example, "diff"):
        name = body.partition("\n")[0].removeprefix("--- ")
        (checkout / name).write_text(edited((checkout / name).read_text(), body.partition("\n")[2]))
        names.append(name)
    return names


def python(checkout: Path, *arguments: str) -> str:
    result = run(checkout, *arguments)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-6000:]
    return result.stdout


def run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


def checkout_with(example: str, folder: Path) -> Path:
    """A copy of the checkout with an example applied to it."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    names = apply(example, folder)
    assert sum(name.startswith("retort/") for name in names) <= 2
    assert sum(name.startswith("tests/") for name in names) == 1
    assert len(names) <= 3
    return folder


def run_commands(example: str, checkout: Path) -> None:
    """What the page says to run; the commands run the copy's tests, the completeness tests among them."""
    commands = "".join(blocks(example, "console")).splitlines()
    assert commands
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == ".venv/bin/python"
        assert "passed" in python(checkout, *arguments, "-q", "-p", "no:cacheprovider")


def fails_without_its_test_case(example: str, checkout: Path) -> None:
    """The completeness test fails where the new name has no test case."""
    (table,) = [name for name in edited_files(example) if name.startswith("tests/")]
    shutil.copy(ROOT / table, checkout / table)
    files = [word for command in blocks(example, "console") for word in command.split() if word.startswith("tests/")]
    result = run(checkout, "-m", "pytest", *files, "-q", "-p", "no:cacheprovider", "-k", "has_a")
    assert result.returncode == 1, result.stdout[-3000:]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_passes_the_tests_that_the_page_names(example, tmp_path):
    checkout = checkout_with(example, tmp_path)
    run_commands(example, checkout)
    python(checkout, "-c", TRIALS[example].format(section=configuration(example)))
    # the reference page and the schema know the new name
    name = next(iter(re.findall(r"`(\w+)`", EXAMPLES[example])))
    assert name in python(checkout, "-m", "retort.config.reference", "--table")
    fails_without_its_test_case(example, checkout)


CORPUS_TRIAL = """
from pathlib import Path
from pydantic import TypeAdapter
from retort.config import Cleaning, Corpus
from retort.corpus.preparation import prepare_corpus
from retort.data.parquet import read_table
from retort.data.tables import CORPUS
settings = TypeAdapter(Corpus).validate_python({section}["corpus"])
prepare_corpus(settings, Cleaning(), Path("trial"))
table = read_table(Path("trial/test.test.parquet"), CORPUS)
assert table.num_rows == 500
for row in table.to_pylist():
    assert row["target"].split() == row["source"].split()[::-1]
"""
SEARCH_TRIAL = """
import torch
from pydantic import TypeAdapter
from retort.config import Search
from retort.data.vocabulary import PAD
from retort.search.base import run_search
from tests.unit.fakes_models import padded, parallel, sentences
search = TypeAdapter(Search).validate_python(next(iter({section}["searches"].values())))
model, source = parallel(), padded(sentences([3, 9, 6]))
longer = search.model_copy(update=dict(extra=5.0))
for ours, theirs in zip(run_search(model, source, search), run_search(model, source, longer)):
    assert len(ours) == 1 and ours[0].tokens and ours[0].passes == 1
    assert len(theirs[0].tokens) > len(ours[0].tokens)
"""
LOSS_TRIAL = """
from pathlib import Path
from pydantic import TypeAdapter
from retort.config import Argmax, Objective
from tests.unit import fakes_training
objective = TypeAdapter(Objective).validate_python({section}["objective"])
fakes_training.OBJECTIVES["focal"] = objective
train, valid = (fakes_training.sequences(pairs, seed=pairs) for pairs in (64, 16))
settings = dict(max_updates=12, validate_every=6, warmup=4, learning_rate=0.01)
trainer = fakes_training.trainer(Path("state"), "focal", train, valid, Argmax(kind="argmax"), **settings)
rows = trainer.run(Path("events")).rows
losses = [row[3] for row in rows if row[1:3] == ["valid", "loss"]]
assert len(losses) == 2 and losses[1] < losses[0]
"""
METRIC_TRIAL = """
from pydantic import TypeAdapter
from retort.config import Evaluation
from retort.evaluation.metrics import score
evaluation = Evaluation.model_validate({section}["evaluation"])
assert evaluation.metrics[0] == "exact"
assert score("exact", ["a b ", "c"], [["x", "a b"], ["d"]]).value == 50
"""
TRIALS = {"A loss": LOSS_TRIAL, "A metric": METRIC_TRIAL, "A search": SEARCH_TRIAL, "A corpus kind": CORPUS_TRIAL}
