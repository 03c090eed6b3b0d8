"""A logger of Snakemake (``--logger retort``): a live view of the run on a terminal, or else one line per event.

Snakemake finds it by its name where the directory above is in PYTHONPATH; ``retort run`` sees to that.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from logging import WARNING, LogRecord
from pathlib import Path

from snakemake.logging import DefaultFormatter, get_event
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from retort.config.problems import nearest
from retort.errors import RetortError
from retort.workflow.lock import stop_file_of
from retort.workflow.progress import FAILED, Job, Progress, Snapshot, snapshot, tail
from retort.workflow.progress_view import LiveView, framed, summary, telling, view

SECONDS_BETWEEN_VIEWS = 1.0
NOTHING = "Nothing to be done"
EXITING = "Exiting because a job execution failed"
NOT_ALL = "WorkflowError:\nAt least one job did not complete successfully."
FAILED_COMMAND = re.compile(r"RuleException:\nCalledProcessError in .*'.*' ([^']+)\.\s*", re.DOTALL)
"""With the whole command, which fills a screen, and then how it ended. The job's log comes after it."""
INTERRUPTED = re.compile(r"died with <Signals\.SIG(TERM|INT)\b.*")
NO_RULE = re.compile(r"MissingRuleException:\nNo rule to produce (.+) \(if you use input functions.*", re.DOTALL)
STAGES = ("all", "corpus", "pretraining", "teacher", "distill", "students", "em", "evaluate", "latency", "report")
"""Targets that are no files; an iteration of the EM loop has its number behind em."""
RUN, TEXT = "retort_run", "retort_text"
"""Marks of records of the workflow: the directory of the run that starts, and text that is for the user."""


class LogHandler(LogHandlerBase):
    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self.setFormatter(DefaultFormatter())
        self.run: Path | None = None
        self.progress: Progress | None = None
        self.titles: dict[int, str] = {}
        self.failed: dict[int, str] = {}
        self.drawing = threading.RLock()
        self.ended = threading.Event()
        self.live = LiveView(sys.stderr)
        self.on_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def emit(self, record: LogRecord) -> None:
        try:
            with self.drawing:
                self._show(record)
        except (OSError, ValueError, KeyError, RetortError):
            self.handleError(record)

    def close(self) -> None:
        self.ended.set()
        super().close()

    def _show(self, record: LogRecord) -> None:
        facts = record.__dict__
        event = get_event(record)
        if RUN in facts:
            self._begin(Path(facts[RUN]))
        elif event == LogEvent.JOB_INFO and facts["output"]:
            self._job(facts)
        elif event == LogEvent.JOB_FINISHED:
            # it may have failed before
            self.failed.pop(facts["job_id"], None)
            # targets have no title
            if title := self.titles.get(facts["job_id"]):
                self._say(f"done: {title}; {self._summary()}")
        elif event == LogEvent.JOB_ERROR:
            # Snakemake gives no message with an error
            title = self.failed[facts["jobid"]] = self.titles.get(facts["jobid"]) or facts["rule_name"]
            logs = telling([Path(log) for log in facts["log"]])
            if self._is_interrupted() and not any(FAILED.search(tail(log)) for log in logs):
                self.live.write(f"interrupted: {title}")
            else:
                self.live.write("\n".join(line for log in logs for line in framed(title, log)))
        elif TEXT in facts:
            self.ended.set()
            self.live.write(record.getMessage())
        elif record.getMessage().startswith(EXITING) and self.failed:
            self.live.write(f"failed: {'; '.join(self.failed.values())}. retort status {self.run} shows their logs.")
        elif self._is_interrupted() and FAILED_COMMAND.fullmatch(record.getMessage()):
            pass  # its log, if it says anything, is shown
        elif self._is_interrupted() and record.getMessage().startswith(NOT_ALL):
            self.live.write("interrupted: the same command goes on")
        elif end := FAILED_COMMAND.fullmatch(record.getMessage()):
            more = "; the same command goes on from it" if INTERRUPTED.fullmatch(end[1]) else ""
            self.live.write(f"a job {end[1]}{more}")
        elif no_rule := NO_RULE.match(record.getMessage()):
            self.live.write(f"error: {no_rule[1]}: no stage, and no result of this run; {nearest(no_rule[1], STAGES)}")
        elif record.levelno >= WARNING or (event is None and record.getMessage().startswith(NOTHING)):
            self.live.write(self.format(record))

    def _begin(self, run: Path) -> None:
        self.run, self.progress = run, Progress.read(run)
        if self.on_terminal:
            threading.Thread(target=self._draw_on, daemon=True).start()
        else:
            self._say(f"{run.name}: {self._summary()}")

    def _job(self, facts: dict) -> None:  # type: ignore[type-arg]
        title = facts["rule_msg"] or facts["rule_name"]
        self.titles[facts["jobid"]] = title
        self._say(f"start: {title}")
        if self.progress and self.run and title not in {job.title for job in self.progress.jobs}:
            # behind a checkpoint of Snakemake: it was not known when the run was started
            self.progress.jobs.append(
                Job(
                    rule=facts["rule_name"],
                    title=title,
                    outputs=[str(path) for path in facts["output"]],
                    log=str(next(iter(facts["log"]), "")),
                    benchmark=str(facts["benchmark"] or ""),
                    threads=facts["threads"],
                    metric=next((job.metric for job in self.progress.jobs if job.metric), ""),
                )
            )
            self.progress.write(self.run)

    def _is_interrupted(self) -> bool:
        """Whether the run was interrupted."""
        return self.run is not None and stop_file_of(self.run.name, Path()).exists()

    def _say(self, text: str) -> None:
        """One line of an event, where there is no view."""
        if not self.on_terminal:
            self.live.write(f"{time.strftime('%H:%M:%S')} {text}")

    def _summary(self) -> str:
        return summary(self._snapshot()) if self.progress else ""

    def _snapshot(self) -> Snapshot:
        assert self.progress and self.run
        return snapshot(self.progress, Path(), self.run, alive=True)

    def _draw_on(self) -> None:
        assert self.run
        while not self.ended.wait(SECONDS_BETWEEN_VIEWS):
            lines = view(self.run.name, self._snapshot())
            with self.drawing:
                if not self.ended.is_set():
                    self.live.draw(lines)
