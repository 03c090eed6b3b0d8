"""The benchmark of a GPU runs to its end without one, in pieces, and does nothing twice."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.workflow


def benchmark(directory: Path, *arguments: str) -> tuple[int, str]:
    """Exit status, and what was logged."""
    fixed = ["--config", "benchmarks/gpu/tiny.yaml", "--work", str(directory / "run"), "--out", str(directory / "out")]
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu.run",
        *fixed,
        "--precisions",
        "float32",
        "--threads",
        "1",
        *arguments,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return done.returncode, done.stdout + done.stderr


def test_the_benchmark_goes_on_where_it_stopped_and_brings_tables(tmp_path: Path) -> None:
    status, log = benchmark(tmp_path, "--minutes", "5", "--steps", "tests", "corpus", "teacher", "distillation")
    assert status == 0, log
    status, log = benchmark(tmp_path, "--minutes", "0.5", "--steps", "students")
    assert status == 75 and "call again" in log, "a training is not begun without the time for it"
    assert "| teacher |" in (tmp_path / "out/tables.md").read_text(), "what is there is brought back"

    before = (tmp_path / "run/systems/teacher/seed1/model.safetensors").stat().st_mtime_ns
    status, log = benchmark(tmp_path, "--minutes", "5")
    assert status == 0, log
    assert (tmp_path / "run/systems/teacher/seed1/model.safetensors").stat().st_mtime_ns == before

    results = json.loads((tmp_path / "out/results.json").read_text())
    assert {t["system"] for t in results["trainings"]} == {"teacher", "ctc", "dag", "janus", "deep-shallow"}
    assert {(r["system"], r["batch_size"]) for r in results["latency"]} == {
        (system, size) for system in ("teacher", "ctc", "dag", "janus", "deep-shallow") for size in (1, 4)
    }
    assert {r["metric"] for r in results["scores"]} >= {"BLEU", "chrF", "length_ratio"}
    assert re.search(r"\d+ (skipped|passed)", results["tests"])
    table = (tmp_path / "out/tables.md").read_text()
    assert re.search(r"\| teacher \| beam5 \|.*\(1\.0, \d+\.\d\)", table), "its own speed is the unit"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "tables.md", "results.json", "tests.txt", "logs.txt", "translations.parquet"
    }  # fmt: skip


def test_a_failed_training_is_named_with_its_log(tmp_path: Path) -> None:
    assert benchmark(tmp_path, "--steps", "corpus")[0] == 0
    (tmp_path / "run/encoded/valid.parquet").write_bytes(b"damaged")
    status, log = benchmark(tmp_path, "--steps", "teacher")
    assert status == 2 and "teacher/seed1" in log and "valid.parquet" in log
