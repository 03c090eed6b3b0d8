"""A configuration with a fault ends the workflow with its file and line, and no code in it runs."""

from __future__ import annotations

import fcntl

import pytest

from retort.workflow.lock import lock_of
from tests.workflow.checkouts import TINY, Checkout

pytestmark = pytest.mark.workflow


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("name: x\nmodel: {d_model: 8", "bad.yaml: line 2, column 19: not readable as YAML: expected ',' or '}'"),
        ("name: x\n? [a]\n: b", "bad.yaml: line 2, column 3: not readable as YAML: a key must be text"),
        ("name: x\nmodel: {d_model: 1000000000}\n", "model.d_model (bad.yaml, line 2): must be less than or"),
        (
            "__use_yte__: true\n__definitions__:\n- open('executed', 'w')\n",
            "__use_yte__ (bad.yaml, line 1): unknown",
        ),
    ],
)
def test_bad_files(checkout: Checkout, content: str, expected: str) -> None:
    (checkout.path / "bad.yaml").write_text(content)
    output = checkout.snakemake("--dry-run", "--configfile", "bad.yaml", succeeds=False)
    assert expected in " ".join(output.split())
    assert "Traceback" not in output and ".smk" not in output and output.count("error") == 1
    assert not (checkout.path / "executed").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("studnets=1", "error: config.yaml: 1 problem: studnets (--config): unknown key; did you mean students?"),
        ("name=2/4", "error: config.yaml: 1 problem: name (--config): '2/4' is not allowed here"),
        # which Snakemake itself refuses
        ("x=1", "Error: Invalid config definition: Config entry must start with a valid identifier."),
    ],
)
def test_bad_values_of_the_command_line(checkout: Checkout, given: str, expected: str) -> None:
    output = checkout.snakemake("--dry-run", "--config", given, succeeds=False)
    assert expected in " ".join(output.split())
    assert "Traceback" not in output and ".smk" not in output


def test_a_run_that_is_under_way_is_refused_in_one_line(checkout: Checkout) -> None:
    lock = lock_of("tiny", checkout.path)
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        output = checkout.snakemake("corpus", "--configfile", checkout.configure(TINY), succeeds=False)
    assert output.endswith("error: another snakemake works on results/tiny; wait for it, or choose another name\n")
    assert ".smk" not in output


def test_a_file_in_the_place_of_a_run_is_one_error(checkout: Checkout) -> None:
    taken = checkout.path / "results/taken"
    taken.parent.mkdir(exist_ok=True)
    taken.touch()
    output = checkout.snakemake("corpus", "--config", "name=taken", succeeds=False)
    taken.unlink()
    assert "Traceback" not in output and ".smk" not in output and output.count("error") == 1
    assert "results/taken: a file is where a directory is needed; move it" in output


def test_a_good_file(checkout: Checkout) -> None:
    assert "train_vocabulary" in checkout.planned(TINY)
