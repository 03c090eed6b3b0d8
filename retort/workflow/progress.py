"""How far a run is, from its files: the jobs it was started with, their outputs, logs and benchmarks.

Nothing but files is needed, so that the terminal of the run, another one, and one after a kill say the same.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from retort.data.durations import UNITS
from retort.data.files import read_text, write_json
from retort.errors import RetortError
from retort.workflow.lock import stop_file_of

NAME = "progress.json"
TAIL_BYTES = 20_000
"""Of a log: what is read for its last lines."""
UNKNOWN_SECONDS = 10.0
"""Time of a job of a kind that was never run here."""
UNKNOWN_UPDATE = 0.2
"""Seconds per update of a training, where none was run here."""
OVERDUE = 0.25
"""Time left to a job that has taken longer than those before it, as a share of what it has taken."""
EARLIER = 1.0
"""Seconds by which clocks of a file system and of the machine may differ."""
UPDATE = re.compile(r"update (\d+)/(\d+), \d+ %(?:, about (\d+) (s|min|h) left)?, (\w+): (.*)")
LOGGED_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
FAILED = re.compile(r"^(error: |Traceback )", re.MULTILINE)
INTERRUPTED = re.compile(r"^(?:error: )?\S+: interrupted\b[^\n]*\s*\Z", re.MULTILINE)
"""The end of the log of a job that a signal asked to stop."""
SHOWN = 200
"""Characters of an error of a record."""

State = Literal["waiting", "running", "done", "interrupted", "failed"]


@dataclass(frozen=True)
class Job:
    """A job that the run was to do when it was started; paths as Snakemake has them."""

    rule: str
    title: str
    outputs: list[str]
    log: str
    benchmark: str
    threads: int = 1
    updates: int | None = None
    """Of a training."""
    metric: str = ""
    """The validation score of a training that its log is read for."""

    @classmethod
    def of(cls, job: Any) -> Job:
        """What is kept of a job of Snakemake."""
        # trainings alone are given a system
        parameters = dict(job.params.items())
        training = json.loads(parameters["system"])["training"] if "system" in parameters else {}
        return cls(
            rule=job.rule.name,
            title=job.message or job.rule.name,
            outputs=[str(path) for path in job.output],
            log=str(next(iter(job.log), "")),
            benchmark=str(job.benchmark or ""),
            threads=job.threads,
            updates=training.get("max_updates"),
            metric=training.get("select_by", ""),
        )


@dataclass(frozen=True)
class Training:
    """What a training's log says last."""

    update: int
    updates: int
    left: float | None
    """Seconds, as of now."""
    loss: float | None
    score: float | None


@dataclass(frozen=True)
class Standing:
    """A job, where it stands, and its times in seconds."""

    job: Job
    state: State
    spent: float
    left: float
    training: Training | None = None


@dataclass
class Progress:
    """The jobs of a run from its start on; kept in the run's directory."""

    started: float
    """Seconds since the epoch."""
    parallel: int
    """Threads, or jobs on a cluster, at once."""
    jobs: list[Job] = field(default_factory=list)

    def write(self, run: Path) -> None:
        write_json(run / NAME, asdict(self))

    @classmethod
    def read(cls, run: Path) -> Progress:
        """Raises RetortError where the run has none."""
        try:
            text = read_text(run / NAME)
            if "\\u" in text:
                raise ValueError("names that no file can have")
            progress = TypeAdapter(cls).validate_json(text, strict=True)
            time.localtime(progress.started)
            return progress
        except FileNotFoundError:
            raise RetortError(
                f"{run}: no record of its jobs ({NAME}); expected the directory of a run that was started, such as "
                f"results/default"
            ) from None
        except NotADirectoryError:
            raise RetortError(
                f"{run}: a file; expected the directory of a run that was started, such as results/{run.stem}"
            ) from None
        except (OSError, ValueError, OverflowError, RecursionError) as error:
            found = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)[:SHOWN]
            raise RetortError(f"{run / NAME}: not a record of a run's jobs ({found}); start the run again") from None


@dataclass(frozen=True)
class Snapshot:
    """All jobs of a run at one time."""

    standings: list[Standing]
    parallel: int

    def having(self, state: State) -> list[Standing]:
        return [standing for standing in self.standings if standing.state == state]

    @property
    def left(self) -> float:
        """Seconds until the end: the work left on all threads, but no less than the longest job takes."""
        rest = [standing for standing in self.standings if standing.state in ("waiting", "running")]
        work = sum(s.left * min(s.job.threads, self.parallel) for s in rest) / self.parallel
        return max([work, *(s.left for s in rest)])

    @property
    def share(self) -> float:
        """Of the work that is done, from 0 to 1."""
        spent, left = sum(s.spent for s in self.standings), sum(s.left for s in self.standings)
        return spent / (spent + left) if spent + left > 0 else 1.0


def snapshot(progress: Progress, base: Path, run: Path, alive: bool, now: float | None = None) -> Snapshot:
    """Where the jobs stand. ``base``: the working directory of the run, which paths are relative to. ``alive``: whether
    it is under way; otherwise what has begun and not ended was interrupted with it, or has failed."""
    now = time.time() if now is None else now
    begun: State = "running" if alive else "interrupted" if stop_file_of(run.name, base).exists() else "failed"
    seen = [_standing(job, base, progress.started, begun=begun, now=now) for job in progress.jobs]
    known = Speeds(seen, base / run)
    return Snapshot([known.estimated(standing) for standing in seen], max(1, progress.parallel))


def keep_done(run: Path) -> None:
    """Leave in the record of a run, in the working directory, only the jobs that were done. Where the run has
    succeeded, the others were not needed: they were planned before the EM loop's guards were known."""
    progress = Progress.read(run)
    done = snapshot(progress, Path(), run, alive=False).having("done")
    replace(progress, jobs=[standing.job for standing in done]).write(run)


class Speeds:
    """How long jobs take: as those of their kind did in this run, or else in other runs of this directory."""

    def __init__(self, standings: Iterable[Standing], run: Path) -> None:
        self.run = run
        self.rules: dict[str, list[float]] = {}
        self.updates: list[float] = []
        for standing in standings:
            training = standing.training
            if standing.state == "done":
                self.rules.setdefault(standing.job.rule, []).append(standing.spent)
                if standing.job.updates:
                    self.updates.append(standing.spent / standing.job.updates)
            elif training and training.left is not None and training.update < training.updates:
                self.updates.append(training.left / (training.updates - training.update))

    def estimated(self, standing: Standing) -> Standing:
        """With the time that is left to it."""
        if standing.state == "done":
            return standing
        if standing.training and standing.training.left is not None:
            return replace(standing, left=standing.training.left)
        # what has taken longer than was thought will take a while yet
        rest = max(1.0, self._whole(standing.job) - standing.spent, OVERDUE * standing.spent)
        return replace(standing, left=rest)

    def _whole(self, job: Job) -> float:
        if job.updates and self.updates:
            return job.updates * statistics.median(self.updates)
        if job.rule not in self.rules:
            files = self.run.parent.glob(f"*/benchmarks/{job.rule}/**/*.tsv")
            unknown = job.updates * UNKNOWN_UPDATE if job.updates else UNKNOWN_SECONDS
            self.rules[job.rule] = [seconds for path in files if (seconds := _benchmark(path))] or [unknown]
        return statistics.median(self.rules[job.rule])


def _standing(job: Job, base: Path, started: float, begun: State, now: float) -> Standing:
    # the benchmark is written last, and stays where an output is temporary
    made = [job.benchmark] if job.benchmark else job.outputs
    if made and min(_written(base / path) for path in made) >= started - EARLIER:
        return Standing(job, "done", _benchmark(base / job.benchmark) or 0.0, left=0.0)
    log = base / job.log
    if not job.log or (written := _written(log)) < started - EARLIER:
        return Standing(job, "waiting", 0.0, left=0.0)
    text = tail(log)
    began = _first_time(log) or written
    state = "failed" if FAILED.search(text) else begun
    if INTERRUPTED.search(text):
        state = "interrupted"
    last = now if state == "running" else written
    training = _training(text, job.metric, since=last - written)
    return Standing(job, state, max(0.0, last - began), left=0.0, training=training)


def _training(text: str, metric: str, since: float) -> Training | None:
    """``since``: seconds since the log was written."""
    found = list(UPDATE.finditer(text))
    if not found:
        return None
    last = found[-1]
    left = None if last[3] is None else max(1.0, int(last[3]) * UNITS[last[4]] - since)
    latest: dict[str, dict[str, float]] = {}
    for line in found:
        latest[line[5]] = _values(line[6])
    validated = {**latest.get("valid", {}), **latest.get("average", {})}
    return Training(
        update=int(last[1]),
        updates=int(last[2]),
        left=left,
        loss=latest.get("train", validated).get("loss"),
        score=validated.get(metric),
    )


def _values(text: str) -> dict[str, float]:
    """Numbers by name of a text such as "loss 2.1 BLEU 30.5"; names may have spaces."""
    return {match[1]: float(match[2]) for match in re.finditer(r"(\S+) (-?[\d.]+(?:e[+-]?\d+)?)(?= |$)", text)}


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def tail(path: Path) -> str:
    """The end of a log; nothing of one that cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _first_time(path: Path) -> float | None:
    """The time of a log's first line that has one."""
    try:
        with path.open("rb") as file:
            found = LOGGED_TIME.search(file.read(2000).decode("utf-8", "replace"))
    except OSError:
        return None
    return datetime.strptime(found[0], "%Y-%m-%d %H:%M:%S").timestamp() if found else None


def _benchmark(path: Path) -> float | None:
    """Seconds of a job, from what Snakemake measured."""
    try:
        head, values = path.read_text(encoding="utf-8").splitlines()[:2]
        return float(dict(zip(head.split("\t"), values.split("\t"), strict=True))["s"])
    except (OSError, ValueError, KeyError):
        return None
