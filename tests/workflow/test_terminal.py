"""What a user sees: the run on a terminal, its verdict, its status, and the command that the verdict names."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.workflow.checkouts import TERMINAL, Checkout

pytestmark = pytest.mark.workflow


def test_a_terminal_shows_the_run_and_then_its_verdict(finished: Checkout) -> None:
    written = (finished.path / TERMINAL).read_text()
    assert re.search(r"tiny \[[#-]+\] \d+ %, \d+ of \d+ jobs, about \d+ (s|min) left$", written, re.MULTILINE)
    assert re.search(r"^  Train teacher, seed 1: .*about \d+ (s|min) left$", written, re.MULTILINE)
    verdict = (finished.path / "results/tiny/report/verdict.txt").read_text()
    assert written.rstrip().endswith(verdict.rstrip()) and "report: results/tiny/report/report.html" in verdict


def test_status_says_that_the_run_is_finished(finished: Checkout) -> None:
    status, written = finished.terminal("status")
    assert status == 0 and "\nfinished; started " in written.replace("\r", "")


def test_the_command_of_the_verdict_translates(finished: Checkout) -> None:
    verdict = (finished.path / "results/tiny/report/verdict.txt").read_text().splitlines()
    _, *words = next(shlex.split(line) for line in verdict if " translate --model results/" in line)
    (finished.path / "in.txt").write_text("fal lomel\nder pikat podon\n")
    status, written = finished.terminal(*words[: words.index("--input")], "--input", "in.txt")
    assert status == 0 and written.count("\n") >= 2, written
