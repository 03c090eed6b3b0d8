"""A copy of the checkout to run Snakemake in, the tiny configuration, and what a dry run would do."""

from __future__ import annotations

import multiprocessing
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "tests/workflow/plugins"
COPIED = ("Snakefile", "rules", "workflow_scripts", "retort", "profiles", "slurm", "envs", "configs", "config.yaml")
# Every second of a test run's trainings counts.
TINY: dict[str, Any] = {
    "name": "tiny",
    "corpus": {"kind": "generated", "train_pairs": 300, "valid_pairs": 20, "test_pairs": 20},
    "vocabulary": {"size": 120},
    "model": {"d_model": 16, "heads": 2, "ffn": 16, "encoder_layers": 1, "decoder_layers": 1},
    "training": {
        "max_updates": 20,
        "warmup": 5,
        "learning_rate": 0.02,
        "batch_tokens": 256,
        "validate_every": 10,
        "decode_sentences": 4,
        "max_untrained": 1,  # outputs of a raw teacher are long
        "average_best": 2,
    },
    "teacher": {
        "objective": {"name": "autoregressive"},
        "searches": {"greedy": {"kind": "greedy"}},
        "training": {"max_updates": 100},
    },
    # A teacher as raw as this one seldom ends a sentence; without a length penalty short outputs win.
    "distillation": {"search": {"kind": "beam", "beam_size": 4, "length_penalty": 0}},
    "students": {
        "vanilla-raw": {"objective": {"name": "vanilla"}},
        "ctc-distilled": {"objective": {"name": "ctc"}, "data": "distilled"},
    },
    "evaluation": {"bootstrap_samples": 20},
    "latency": {"sentences": 4, "batch_sizes": [1, 4], "warmup": 1, "cold_starts": 0, "shortlist_size": 0},
    # Nothing of a value may reach the shell as code.
    "report": {"title": 'It\'s "quoted" $(touch executed) `touch executed`\nsecond line {x} {{y}} %s ; touch executed'},
}
# Two iterations of the EM loop, and beside it a student that has both targets of each source, chosen by another one.
# Tiny models are too poor for any bound.
TINY_EM: dict[str, Any] = {
    **{
        key: TINY[key] for key in ("corpus", "vocabulary", "model", "training", "teacher", "distillation", "evaluation")
    },
    "name": "tiny-em",
    "latency": {**TINY["latency"], "batch_sizes": [1], "engines": ["torch"]},
    "students": {
        "ctc": {"objective": {"name": "ctc"}, "data": "distilled"},
        "references": {"objective": {"name": "vanilla"}, "data": "references"},
        "mixed": {
            "objective": {"name": "ctc"},
            "data": "mixed",
            "mixture": {"kind": "selective", "evaluator": "ctc"},
            "self_paced": {"criterion": "agreement", "window": 50},
        },
    },
    "em": {
        "iterations": 2,
        "candidates": 3,
        "held_out": 50,
        "student": {
            "searches": {
                "argmax": {"kind": "argmax", "deduplicate": "odd"},
                "parallel3": {"kind": "length_parallel", "candidates": 3},
            }
        },
        # as good as the teacher it starts from
        "teacher": {"training": {"max_updates": 10, "learning_rate": 1e-5}},
        "guards": {"length": 0, "distinct_words": 0, "quality": 0, "likelihood": 100},
    },
}


@dataclass(frozen=True)
class Checkout:
    """A copy of the workflow in ``path``."""

    path: Path

    def snakemake(self, *arguments: str, succeeds: bool = True) -> str:
        """Run Snakemake here; returns what it printed, rules and wildcards of jobs instead of their messages."""
        options = ["--logger=rules", "--set-scatter", "distill=2", "--cores", "2"]
        with tempfile.TemporaryFile("w+") as output:
            process = forks().Process(
                target=run_snakemake, args=(self.path, [*options, *arguments], DupFd(output.fileno()))
            )
            process.start()
            process.join()
            output.seek(0)
            text = output.read()
        assert (process.exitcode == 0) == succeeds, text
        return text

    def terminal(self, *arguments: str) -> tuple[int, str]:
        """Run ``retort`` here in a pseudo-terminal; returns its status and all that it wrote there."""
        command = [sys.executable, "-m", "retort", *arguments]
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RETORT_MIRROR")}
        ours, its = pty.openpty()
        process = subprocess.Popen(
            command, cwd=self.path, env={**environment, "TERM": "xterm"}, stdin=its, stdout=its, stderr=its
        )
        os.close(its)
        written = b""
        # Linux says EIO when nobody has the other end any more
        with suppress(OSError):
            while block := os.read(ours, 1 << 16):
                written += block
        os.close(ours)
        return process.wait(), written.decode()

    def why(self, *arguments: str) -> str:
        """What ``retort why`` prints here."""
        command = [sys.executable, "-m", "retort", "why", *arguments]
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RETORT_MIRROR")}
        done = subprocess.run(command, cwd=self.path, env=environment, text=True, capture_output=True)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return done.stdout

    def configure(self, config: dict[str, Any], name: str = "test.yaml") -> str:
        """Write a configuration here; returns its name."""
        (self.path / name).write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        return name

    def planned(self, config: dict[str, Any], *arguments: str) -> set[str]:
        """The jobs a run with this configuration would do, as ``rule`` or ``rule system/seed/search``."""
        name = self.configure(config)
        return jobs(self.snakemake("--dry-run", *arguments, "--configfile", name))


@cache
def forks() -> ForkServerContext:
    """Starts processes that have imported Snakemake, which is half of a dry run's time, but nothing of Retort."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["snakemake.cli", "pandas", "pyarrow.parquet", "pydantic", "yaml"])
    return context


def run_snakemake(directory: Path, arguments: list[str], output: Any) -> None:
    """What ``python -m snakemake`` does in ``directory``; it prints to the descriptor that ``output`` brings."""
    descriptor = output.detach()
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.chdir(directory)
    os.environ.pop("RETORT_MIRROR", None)
    os.environ["PYTHONPATH"] = str(PLUGINS)
    sys.path[0:0] = [str(directory), str(PLUGINS)]
    sys.argv = ["snakemake", *arguments]

    from snakemake.cli import main

    main()


def jobs(dry_run: str) -> set[str]:
    """The jobs in the output of a dry run, without the targets."""
    found: list[str] = []
    for line in dry_run.splitlines():
        if match := re.match(r"(?:local)?(?:rule|checkpoint) (\w+):", line):
            found.append(match[1])
        elif match := re.match(r"    wildcards: (.*)", line):
            found[-1] += " " + "/".join(value.partition("=")[2] for value in match[1].split(", "))
    targets = {"all", "corpus", "teacher", "pretraining", "distill", "students", "em", "evaluate", "latency", "report"}
    return {job for job in found if job not in targets and not re.fullmatch(r"em\d+", job)}


def training_rule(run: str) -> str:
    """The rule that trains a system, or a run ``system/seed``."""
    return "train_teacher" if run.partition("/")[0] == "teacher" else "train_student"


def copy_checkout(path: Path) -> Checkout:
    path.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_symlink():
            (path / name).symlink_to(source.readlink())
        elif source.is_dir():
            shutil.copytree(source, path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, path / name)
    return Checkout(path)
