"""The path of a user with two files, on a terminal."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.checkouts import ROOT, copy_checkout

pytestmark = pytest.mark.workflow


# So small that it is done soon; what a user gives by hand instead is in the README.
SMALL = [
    "training={max_updates: 20, learning_rate: 0.02, batch_tokens: 256, decode_sentences: 4, validate_every: 20, "
    "max_untrained: 1}",
    "model={d_model: 16, heads: 2, ffn: 16, encoder_layers: 1, decoder_layers: 1}",
    "teacher={training: {max_updates: 100, validate_every: 100}, searches: {greedy: {kind: greedy}}}",
    "distillation={search: {kind: beam, beam_size: 4, length_penalty: 0}, engine: torch}",
    "evaluation={bootstrap_samples: 20}",
    "latency={sentences: 4, batch_sizes: [1], engines: [torch], cold_starts: 0}",
]


def test_two_files_become_a_verdict_and_a_translation(tmp_path: Path) -> None:
    """The README's path: retort init, retort run, retort translate."""
    checkout = copy_checkout(tmp_path / "checkout")
    subprocess.run(
        [sys.executable, ROOT / "examples/two-files/made_up.py", "--pairs", "300", "my.source", "my.target"],
        cwd=checkout.path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    status, written = checkout.terminal("init", "my.source", "my.target", "--quick")
    assert status == 0 and "300 pairs; 0 repeated, 0 with an empty side" in written
    assert "about " in written and written.rstrip().endswith("Now: retort run my.yaml")

    flags = ("--cores", "2", "--set-scatter", "distill=1", "--config", *SMALL)
    status, written = checkout.terminal("run", "my.yaml", *flags)
    assert status == 0 and "report: results/my/report/report.html" in written, written
    assert (checkout.path / "results/my/report/report.html").stat().st_size > 10_000

    command = next(line for line in written.splitlines() if " translate --model results/my/systems/" in line)
    _, *words = shlex.split(command.strip())
    status, written = checkout.terminal(*words[: words.index("--input")], "--input", "my.source", "--output", "out.txt")
    assert status == 0, written
    assert len((checkout.path / "out.txt").read_text().splitlines()) == 300
