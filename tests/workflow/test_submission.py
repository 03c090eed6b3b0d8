"""A job that waits in SLURM while its call is killed and the configuration is edited. SLURM is a few commands that keep
what they are given; the job is then run as SLURM would."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
import yaml

from retort.data.parquet import read_table
from retort.data.tables import CORPUS
from tests.workflow.checkouts import TINY, Checkout, copy_checkout

pytestmark = pytest.mark.workflow

TITLE = "a $(touch executed) `touch executed`"
MADE = "results/tiny/corpus/train.parquet"
COMMANDS = {
    "sacct": "exit 1",
    "sacctmgr": "echo a",
    "sinfo": "echo PARTITION; echo 'p*'",
    "scontrol": "echo 'MinJobAge = 300 sec'",
    "squeue": "test -e refuse || echo '1|PENDING'",
    "sbatch": r"""test -e refuse && exit 1; printf '%s\n' "$@" > argv.txt; echo 1""",
    "srun": 'while [ "${1#-}" != "$1" ]; do shift; done; exec "$@"',
}
"""SLURM's commands, as lines of a shell; sbatch refuses where a file says so."""


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout where the first job was submitted, its call was killed, another number of pairs was configured, and
    then the job ran."""
    checkout = copy_checkout(tmp_path_factory.mktemp("submission") / "checkout")
    for name, line in COMMANDS.items():
        command = checkout.path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f"#!/bin/sh\n{line}\n")
        command.chmod(0o755)
    checkout.configure(TINY, "tiny.yaml")
    main = submit(checkout, "--config", f"report={{title: {json.dumps(TITLE)}}}")
    end = time.monotonic() + 300
    while not marked(checkout, "incomplete").exists():
        assert main.poll() is None and time.monotonic() < end, (checkout.path / "output.txt").read_text()
        time.sleep(0.1)
    os.killpg(main.pid, signal.SIGKILL)
    main.wait()
    checkout.configure(other(), "tiny.yaml")
    job = subprocess.run(["sh", "-c", wrapped(checkout)], cwd=checkout.path, env=environment(checkout))
    assert job.returncode == 0
    return checkout


def environment(checkout: Checkout) -> dict[str, str]:
    given = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RETORT_MIRROR")}
    return {**given, "PATH": f"{checkout.path / 'bin'}:{given['PATH']}", "SLURM_JOB_ID": "1"}


def submit(checkout: Checkout, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "snakemake", MADE, *arguments, "--profile", "slurm", "--configfile", "tiny.yaml"]
    command += ["--default-resources", "slurm_account=a", "slurm_partition=p", "mem_mb=1000", "runtime=60"]
    command += ["--retries", "0"]
    with open(checkout.path / "output.txt", "ab") as output:
        return subprocess.Popen(
            command,
            cwd=checkout.path,
            env=environment(checkout),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def marked(checkout: Checkout, kind: str) -> Path:
    return checkout.path / ".snakemake" / kind / urlsafe_b64encode(MADE.encode()).decode()


def wrapped(checkout: Checkout) -> str:
    """The command of the job that was submitted."""
    return (checkout.path / "argv.txt").read_text().partition("--wrap=")[2]


def other() -> dict[str, Any]:
    config = copy.deepcopy(TINY)
    config["corpus"]["train_pairs"] = 200
    return config


def test_no_value_of_the_command_line_reaches_the_shell_that_submits(submitted: Checkout) -> None:
    assert not (submitted.path / "executed").exists()
    assert "executed" not in wrapped(submitted) and " --config " not in wrapped(submitted)
    (given,) = re.findall(r"--configfiles '?([^ ']+)", wrapped(submitted))
    assert yaml.safe_load(Path(given).read_text())["report"]["title"] == TITLE
    assert json.loads((submitted.path / "results/tiny/call.json").read_text())["configfiles"] == ["tiny.yaml"]


def test_a_job_has_the_configuration_of_its_submission(submitted: Checkout) -> None:
    assert read_table(submitted.path / MADE, CORPUS).num_rows == TINY["corpus"]["train_pairs"]


def test_what_a_job_made_after_its_call_was_killed_counts_as_made_from_that(submitted: Checkout) -> None:
    assert submitted.planned(other(), MADE) == {"prepare_corpus"}
    assert submitted.planned(TINY, MADE) == set()
    (submitted.path / "refuse").touch()
    submitted.configure(TINY, "tiny.yaml")
    assert json.loads(marked(submitted, "metadata").read_text())["input_checksums"] is None
    assert submit(submitted, "results/tiny/encoded/train.parquet").wait(timeout=300) != 0
    assert json.loads(marked(submitted, "metadata").read_text())["input_checksums"] == {}
    assert submitted.planned(TINY, MADE) == set() and submitted.planned(other(), MADE) == {"prepare_corpus"}
