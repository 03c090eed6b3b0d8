"""A run whose teacher is a command: what runs, what runs again, and that no source is asked twice."""

from __future__ import annotations

import copy
import sys
from typing import Any

import pytest

from tests.workflow.checkouts import TINY, Checkout, copy_checkout

pytestmark = pytest.mark.workflow

PROGRAM = """import sys
log = open("asked.txt", "a")
for line in sys.stdin:
    print(line.strip(), file=log, flush=True)
    print("ab " + line.strip()[::-1], flush=True)
"""
ASKS = {"ask_teacher 1-of-2", "ask_teacher 2-of-2"}


def external(**keys: Any) -> dict[str, Any]:
    raw = copy.deepcopy(TINY)
    del raw["teacher"]
    command = {"kind": "command", "arguments": [sys.executable, "program.py"], "streams": True, "lines": 20, **keys}
    return {**raw, "name": "external", "external_teacher": command}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout where such a run has ended."""
    checkout = copy_checkout(tmp_path_factory.mktemp("workflow") / "checkout")
    (checkout.path / "program.py").write_text(PROGRAM)
    checkout.snakemake("--configfile", checkout.configure(external(), "external.yaml"))
    return checkout


def test_no_teacher_is_trained_and_the_external_one_is_a_system_of_the_report(done: Checkout) -> None:
    assert sorted(path.name for path in (done.path / "results/external/systems").iterdir()) == [
        "ctc-distilled",
        "vanilla-raw",
    ]
    csv = (done.path / "results/external/report/results.csv").read_text()
    rows = [line for line in csv.splitlines() if line.startswith("external,")]
    assert any(",BLEU," in row for row in rows) and any(",latency_ms@1," in row for row in rows)
    assert "Outputs of the external teacher" in (done.path / "results/external/report/report.html").read_text()
    # every source of the training text and of the test once, besides what the clock asked
    asked = (done.path / "asked.txt").read_text().splitlines()
    assert len(asked) >= 320 and not done.planned(external())


def test_a_key_that_the_environment_lacks_ends_the_run_before_its_first_job(checkout: Checkout) -> None:
    keys = {"base_url": "http://localhost:1/v1", "model": "m", "prompt": "{source}", "key_variable": "NO_SUCH_KEY"}
    raw = {**external(), "name": "keyless", "external_teacher": {"kind": "openai", **keys}}
    text = checkout.snakemake("--configfile", checkout.configure(raw, "keyless.yaml"), succeeds=False)
    assert "error: external_teacher.key_variable: the environment has no NO_SUCH_KEY; export the key in it" in text
    assert not (checkout.path / "results/keyless/corpus").exists()
    assert "ask_teacher 1-of-2" in checkout.planned(raw)


def test_what_runs_again_is_what_depends_on_the_change(done: Checkout) -> None:
    report = {"write_config", "draw_rules", "build_report"}
    assert done.planned(external(jobs=3, timeout=5)) == report
    judged = done.planned(external(filters={"copied": None}))
    assert "judge_outputs" in judged and not judged & {*ASKS, "translate_external command"}
    assert {*ASKS, "translate_external command"} <= done.planned(external(outputs=2))
    student = external()
    student["students"]["ctc-distilled"]["training"] = {"max_updates": 21}
    assert not {job for job in done.planned(student) if job.startswith(("ask", "judge"))}
