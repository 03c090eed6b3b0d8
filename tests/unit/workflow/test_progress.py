"""How far a run is, from its files alone; the view of it; the logger that shows it."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retort.errors import RetortError
from retort.workflow import progress_view, status
from retort.workflow.lock import RunLock, is_held, lock_of, stop_file_of
from retort.workflow.progress import Job, Progress, keep_done, snapshot
from retort.workflow.progress_view import LiveView

ROOT = Path(__file__).resolve().parents[3]
RUN = Path("results/r")
NOW = 1_700_000_000.0
INTERRUPTED = "error: score: interrupted"
LOG = """2026-01-01 10:00:00 reads the text
2026-01-01 10:00:10 update 50/200, 25 %, about 3 min left, train: loss 2.162 nll 1.532 tokens_per_second 1.02e+04
2026-01-01 10:00:12 update 50/200, 25 %, about 3 min left, valid: loss 0.9133 nll 0.9133 BLEU 30.66 chrF 57.6
"""


def job(name: str, rule: str = "score", **facts: Any) -> Job:
    return Job(rule, f"Do {name}", [f"{RUN}/{name}.parquet"], f"{RUN}/logs/{name}.log", f"{RUN}/{name}.tsv", **facts)


def write(base: Path, name: str, text: str, at: float) -> None:
    path = base / RUN / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))


def benchmark(seconds: float) -> str:
    return f"s\th:m:s\n{seconds}\t0:00:01\n"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A run with a job that is done, a training under way, and two that wait."""
    jobs = [job("done"), job("train", "train_student", updates=200, metric="BLEU"), job("next"), job("last", "latency")]
    jobs.append(job("after", "train_student", updates=400))
    (tmp_path / RUN).mkdir(parents=True)
    Progress(NOW, 2, jobs).write(tmp_path / RUN)
    write(tmp_path, "done.tsv", benchmark(30), NOW + 40)
    write(tmp_path, "logs/done.log", "", NOW + 10)
    write(tmp_path, "logs/train.log", LOG, NOW + 60)
    # of an earlier call
    write(tmp_path, "next.tsv", benchmark(5), NOW - 60)
    write(tmp_path, "../other/benchmarks/latency/x.tsv", benchmark(90), NOW - 600)
    return tmp_path


def seen(base: Path, alive: bool = True) -> Any:
    return snapshot(Progress.read(base / RUN), base, RUN, alive=alive, now=NOW + 70)


def test_jobs_stand_where_their_files_say(base: Path) -> None:
    found = seen(base)
    assert [standing.state for standing in found.standings] == ["done", "running", "waiting", "waiting", "waiting"]
    training = found.standings[1].training
    assert training and (training.update, training.updates, training.loss, training.score) == (50, 200, 2.162, 30.66)
    assert [standing.state for standing in seen(base, alive=False).standings][1] == "failed"


def test_a_training_that_was_not_known_shows_where_it_is(base: Path) -> None:
    """Behind a checkpoint of Snakemake the number of its updates is not known, but its log has it."""
    progress = Progress.read(base / RUN)
    progress.jobs[1] = replace(progress.jobs[1], updates=None)
    training = snapshot(progress, base, RUN, alive=True, now=NOW + 70).standings[1].training
    assert training and (training.update, training.updates, training.score) == (50, 200, 30.66)


def test_time_left_is_that_of_each_kind_of_job(base: Path) -> None:
    left = [standing.left for standing in seen(base).standings]
    # 3 minutes, said 10 s ago; a job of its kind took 30 s in this run; one of another run 90 s; 170 s are 150 updates
    assert left == [0, 170, 30, 90, pytest.approx(400 * 170 / 150)]
    # the work on two threads is less than the longest training
    assert seen(base).left == pytest.approx(400 * 170 / 150)
    spent = 30 + seen(base).standings[1].spent
    assert seen(base).share == pytest.approx(spent / (spent + sum(left)))


def test_a_job_that_takes_longer_than_others_did_has_a_part_of_that_left(base: Path) -> None:
    write(base, "logs/next.log", "", NOW + 10)
    # of 30 s it has had 60
    assert seen(base).standings[2].state == "running" and seen(base).standings[2].left == 15


def test_a_job_that_wrote_an_error_has_failed(base: Path) -> None:
    write(base, "logs/train.log", f"{LOG}error: train_system: no text\n", NOW + 61)
    assert seen(base).standings[1].state == "failed"
    frame = progress_view.framed("Do train", base / RUN / "logs/train.log")
    assert "failed: Do train" in frame[0] and frame[-2] == "| error: train_system: no text"


def test_a_job_that_ended_with_its_interrupted_run_has_not_failed(base: Path) -> None:
    assert seen(base, alive=False).standings[1].state == "failed"
    stopped(base)
    assert [seen(base, alive).standings[1].state for alive in (True, False)] == ["running", "interrupted"]
    write(base, "logs/train.log", f"{LOG}error: train_system: no text\n", NOW + 61)
    assert seen(base, alive=False).standings[1].state == "failed"


def stopped(base: Path) -> None:
    """As after a signal to the workflow."""
    stop_file_of(RUN.name, base).parent.mkdir()
    stop_file_of(RUN.name, base).touch()


@pytest.mark.parametrize("end", ["train_system: interrupted after update 60; its state is saved", INTERRUPTED])
def test_an_interrupted_job_has_not_failed(base: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    write(base, "logs/train.log", f"{LOG}{end}\n", NOW + 61)
    assert [seen(base, alive).standings[1].state for alive in (True, False)] == ["interrupted"] * 2
    monkeypatch.chdir(base)
    said = status.lines(RUN)
    assert len(said) == 2 and "1 of 5 jobs, 1 interrupted, about" in said[0]
    assert progress_view.framed("Do train", RUN / "logs/train.log")[0].startswith("--- interrupted: Do train (")
    write(base, "logs/train.log", f"{LOG}{end}\nerror: train_system: no text\n", NOW + 61)
    assert seen(base).standings[1].state == "failed"


def test_a_run_that_has_succeeded_is_finished_without_jobs_that_were_not_needed(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base)
    assert "not under way" in status.lines(RUN)[1]
    keep_done(RUN)
    head, end = status.lines(RUN)
    assert "1 of 1 jobs" in head and end.startswith("finished; started ")


def test_what_a_failed_job_has_left_undone_counts(base: Path) -> None:
    going, failed = seen(base), seen(base, alive=False)
    assert failed.standings[1].left == 180
    later = snapshot(Progress.read(base / RUN), base, RUN, alive=False, now=NOW + 90_000)
    assert later.share == failed.share < going.share < 0.5


def test_the_view_has_a_bar_and_a_line_for_each_running_job(base: Path) -> None:
    head, line = progress_view.view("r", seen(base))
    assert head.startswith("r [") and "1 of 5 jobs, about 8 min left" in head
    assert line == "  Do train: update 50/200, loss 2.16, BLEU 30.7, about 3 min left"


def test_lines_are_drawn_over_the_last_ones_and_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((10, 24)))
    stream = io.StringIO()
    live = LiveView(stream)
    live.draw(["one", "x" * 30])
    live.write("stays")
    live.draw(["two"])
    assert stream.getvalue() == f"one\n{'x' * 9}\n\x1b[2A\x1b[Jstays\ntwo\n"


def test_status_says_whether_a_run_is_under_way(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)
    assert any(line.startswith("not under way; started ") for line in status.lines(None))
    lock = lock_of("r", base)
    assert not is_held(lock)
    RunLock(lock, str(RUN)).take()
    assert is_held(lock) and status.lines(RUN)[2].startswith("under way since ")


def test_status_of_results_behind_a_link(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)
    there = status.lines(RUN)
    (base / "results").rename(tmp_path / "scratch")
    (base / "results").symlink_to(tmp_path / "scratch")
    assert status.lines(RUN) == status.lines(None) == there
    RunLock(lock_of("r", base), str(RUN)).take()
    assert status.lines(RUN)[2].startswith("under way since ")


def test_status_through_a_link_to_a_run(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)
    Path("results/latest").symlink_to("r")
    assert status.lines(Path("results/latest")) == status.lines(RUN)
    RunLock(lock_of("r", base), str(RUN)).take()
    assert status.lines(Path("results/latest"))[2].startswith("under way since ")


def test_status_finds_logs_from_another_directory(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(base, "logs/train.log", f"{LOG}error: train_system: no text\n", NOW + 61)
    (base / "elsewhere").mkdir()
    monkeypatch.chdir(base / "elsewhere")
    assert "| error: train_system: no text" in status.lines(base / RUN)


def test_a_directory_without_a_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RetortError, match="no run was started here"):
        status.lines(None)
    with pytest.raises(RetortError, match=r"nowhere: no record of its jobs \(progress.json\)"):
        status.lines(tmp_path / "nowhere")
    (tmp_path / "my.yaml").touch()
    with pytest.raises(RetortError, match=r"my.yaml: a file; expected the directory of a run .* such as results/my$"):
        status.lines(tmp_path / "my.yaml")


RECORDS: dict[str, Any] = {
    "deep": "[" * 99_999,
    "digits": f'{{"started": {"9" * 5000}}}',
    "a list": "[]",
    "nothing": "{}",
    "no time": '{"started": NaN, "parallel": 1, "jobs": []}',
    "a late time": '{"started": 1e300, "parallel": 1, "jobs": []}',
    "text for a number": '{"started": 0, "parallel": "2", "jobs": []}',
    "a number for a job": '{"started": 0, "parallel": 2, "jobs": [7]}',
    "a list for a log": '{"started": 0, "parallel": 2, "jobs": [{"rule": "a", "title": "a", "log": []}]}',
    "NUL": '{"started": 0, "parallel": 2, "jobs": [{"rule": "a", "log": "a\\u0000b"}]}',
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_damaged_record_is_one_clear_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text(RECORDS[name])
    with pytest.raises(RetortError, match="progress.json: not a record of .*; start the run again") as found:
        status.lines(tmp_path)
    assert "\n" not in str(found.value) and len(str(found.value)) < 400


@pytest.mark.parametrize(
    ("params", "updates", "metric"),
    [
        ({"state": "state/decode", "search": "{}"}, None, ""),
        ({"state": "state/train", "system": '{"training": {"max_updates": 7, "select_by": "chrF"}}'}, 7, "chrF"),
    ],
)
def test_jobs_of_snakemake_are_kept_with_the_updates_of_trainings(params: Any, updates: Any, metric: str) -> None:
    rule = SimpleNamespace(name="train_student")
    facts = {"message": "Train it", "output": ["a", "b"], "log": ["l"], "benchmark": "t.tsv", "threads": 2}
    kept = Job.of(SimpleNamespace(rule=rule, params=params, **facts))
    assert kept == Job("train_student", "Train it", ["a", "b"], "l", "t.tsv", 2, updates, metric)


@pytest.fixture
def handler(base: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(base)
    monkeypatch.syspath_prepend(ROOT / "retort/workflow/plugins")
    handler = import_module("snakemake_logger_plugin_retort").LogHandler(SimpleNamespace(), None)
    handler.live = LiveView(io.StringIO())
    return handler


def say(handler: Any, text: str = "", level: int = logging.INFO, **facts: Any) -> str:
    """What is written for a record of Snakemake."""
    before = len(handler.live.stream.getvalue())
    handler.handle(logging.makeLogRecord({"msg": text, "levelno": level, **facts}))
    return str(handler.live.stream.getvalue()[before:])


def test_without_a_terminal_there_is_one_line_per_event(handler: Any) -> None:
    from snakemake_interface_logger_plugins.common import LogEvent

    handler.on_terminal = False
    facts: dict[str, Any] = {
        "jobid": 7,
        "rule_msg": "Do new",
        "rule_name": "score",
        "output": ["a"],
        "log": [],
        "benchmark": None,
    }
    assert "1 of 5 jobs" in say(handler, retort_run=str(RUN))
    assert say(handler, event=LogEvent.JOB_INFO, threads=1, **facts).endswith(" start: Do new\n")
    # it was not known when the run was started
    assert Progress.read(RUN).jobs[-1].title == "Do new"
    assert " done: Do new; " in say(handler, event=LogEvent.JOB_FINISHED, job_id=7)
    assert say(handler, "Select jobs to execute...") == say(handler, event=LogEvent.JOB_FINISHED, job_id=0) == ""
    assert say(handler, "beware", logging.WARNING) == "beware\n"
    frame = framed_failure(handler)
    assert "failed: Do new (failed.log)" in frame and "| error: no text" in frame
    command = "RuleException:\nCalledProcessError in file 'a.smk', line 1:\nCommand 'echo '\"'\"'\nb'"
    command += " returned non-zero exit status 1."
    assert say(handler, command, logging.ERROR) == "a job returned non-zero exit status 1\n"
    command = command.replace("returned non-zero exit status 1", "died with <Signals.SIGTERM: 15>")
    said = "a job died with <Signals.SIGTERM: 15>; the same command goes on from it\n"
    assert say(handler, command, logging.ERROR) == said
    at_the_end = "Exiting because a job execution failed. Look above for error messages"
    assert say(handler, at_the_end, logging.ERROR) == f"failed: Do new. retort status {RUN} shows their logs.\n"
    say(handler, event=LogEvent.JOB_FINISHED, job_id=7)
    assert say(handler, at_the_end, logging.ERROR) == f"{at_the_end}\n", "a second attempt ended well"
    assert say(handler, "the verdict", retort_text=True) == "the verdict\n"


def test_an_interrupted_run_says_how_it_goes_on(handler: Any) -> None:
    from snakemake_interface_logger_plugins.common import LogEvent

    handler.on_terminal = False
    say(handler, retort_run=str(RUN))
    stopped(Path())
    Path("quiet.log").write_text("update 1/2\n")
    facts: dict[str, Any] = {"jobid": 7, "rule_msg": None, "rule_name": "score"}
    assert say(handler, event=LogEvent.JOB_ERROR, log=["quiet.log"], **facts) == "interrupted: score\n"
    assert "--- failed: score (failed.log)" in framed_failure(handler)
    command = (
        "RuleException:\nCalledProcessError in file 'a.smk', line 1:\nCommand 'x' returned non-zero exit status 143."
    )
    assert say(handler, command, logging.ERROR) == ""
    end = "WorkflowError:\nAt least one job did not complete successfully."
    assert say(handler, end, logging.ERROR) == "interrupted: the same command goes on\n"


def test_a_target_that_nothing_makes_is_named_with_the_stages(handler: Any) -> None:
    no_rule = "MissingRuleException:\nNo rule to produce {} (if you use input functions make sure that they don't ..."
    said = say(handler, no_rule.format("techer"), logging.ERROR)
    assert said == "error: techer: no stage, and no result of this run; did you mean teacher?\n"
    assert "run; valid: all, corpus," in say(handler, no_rule.format("results/my/x.parquet"), logging.ERROR)
    names = re.findall(r"^rule (\w+):", (ROOT / "Snakefile").read_text(), re.MULTILINE)
    assert set(sys.modules["snakemake_logger_plugin_retort"].STAGES) == set(names)


def test_the_log_of_a_cluster_is_shown_where_the_job_s_own_names_no_error(tmp_path: Path) -> None:
    own, cluster = tmp_path / "own.log", tmp_path / "cluster.log"
    assert progress_view.telling([own, cluster]) == [own, cluster]
    own.write_text("update 1/2\n")
    assert progress_view.telling([own, cluster]) == [own, cluster]
    own.write_text("update 1/2\nerror: train_system: no\n")
    assert progress_view.telling([own, cluster]) == [own] and progress_view.telling([]) == []


def framed_failure(handler: Any) -> str:
    from snakemake_interface_logger_plugins.common import LogEvent

    Path("failed.log").write_text("error: no text\n")
    return say(handler, event=LogEvent.JOB_ERROR, jobid=7, rule_msg=None, rule_name="score", log=["failed.log"])


def test_on_a_terminal_there_is_a_view_until_the_end(handler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["snakemake_logger_plugin_retort"], "SECONDS_BETWEEN_VIEWS", 0.01)
    handler.on_terminal = True
    say(handler, retort_run=str(RUN))
    until = time.monotonic() + 10
    while "1 of 5 jobs" not in handler.live.stream.getvalue() and time.monotonic() < until:
        time.sleep(0.01)
    assert "r [" in handler.live.stream.getvalue()
    assert say(handler, "the verdict", retort_text=True).endswith("the verdict\n")
    shown = handler.live.stream.getvalue()
    time.sleep(0.05)
    assert handler.live.stream.getvalue() == shown
