"""What a lent GPU is asked, in one command that is given again until it has done everything.

    python -m benchmarks.gpu.run --config benchmarks/gpu/tatoeba-512.yaml --work .gpu/run --out .gpu/out --minutes 9

See README.md beside this file for a machine that is lent for half an hour. The steps, in this order:

- tests: the unit tests marked gpu;
- corpus: text, vocabulary and encoded text, which can be made elsewhere and brought along;
- teacher, distillation, students: the students are trained side by side on the one device;
- scores: translations of the test sets, and their quality;
- latency: every system and search at batch size 1 and in batches, in the precisions of --precisions;
- tables: tables.md and results.json of all that is there, also after each call that ends before the work does.

A step that is done is not done again; trainings and the distillation go on where they stopped.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from retort.config import Config, Latency
from retort.config.load import load_files
from retort.data.files import write_json
from retort.data.parquet import read_table, write_table
from retort.data.provenance import provenance
from retort.data.runs import Run
from retort.data.tables import CORPUS, LATENCY
from retort.errors import RetortError
from retort.runtime import open_system
from retort.runtime.timing import Timed, measure
from retort.training.device import describe_device, prepare_device
from retort.workflow.options import Options
from retort.workflow.plan import Plan

from .tables import write_tables

ROOT = Path(__file__).resolve().parents[2]

OUT_OF_TIME = 75
"""Exit status of a training, and of this script, that has to be called again."""
SECONDS_FOR_STEP = {"distillation": 20.0, "scores": 20.0, "latency": 20.0}
"""Least time with which a step that does not look at the clock is begun."""

logger = logging.getLogger("gpu")


class NotFinished(Exception):
    """The time of this call is over before the work is done."""


@dataclass
class Job:
    """A call of this script."""

    config: Config
    work: Path
    out: Path
    precisions: list[str]
    threads: int
    ends: float
    """Reading of ``time.monotonic`` at which the call should have ended."""

    def __post_init__(self) -> None:
        self.plan = Plan(self.config, str(self.work), lambda iteration: {})
        self.options, self.layout = Options(self.plan), self.plan.layout

    @property
    def seconds_left(self) -> float:
        return self.ends - time.monotonic()

    def require(self, step: str) -> None:
        """Raises NotFinished if too little time is left to begin the step."""
        if self.seconds_left < SECONDS_FOR_STEP[step]:
            raise NotFinished(f"{step}: {self.seconds_left:.0f} s left")


def script(name: str) -> ModuleType:
    """A workflow script as a module: its ``main`` runs here, without the start of another process."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"workflow_scripts/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def call(name: str, *arguments: object) -> None:
    """Run a workflow script with these arguments."""
    module = script(name)
    module.main(module.parser().parse_args([str(argument) for argument in arguments]))


def run_tests(job: Job) -> None:
    """The unit tests marked gpu; their summary is in tests.txt."""
    report = job.work / "tests.txt"
    if report.exists():
        return
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rfE",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "tests/unit/test_gpu.py",
    ]
    limit = max(30.0, min(240.0, job.seconds_left - 30))
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, env=environment())
        report.write_text(done.stdout[-20_000:] + done.stderr[-5_000:])
    except subprocess.TimeoutExpired as error:
        report.write_text(f"{error}\nstopped after {limit:.0f} s")
    logger.info("tests: %s", report.read_text().strip().splitlines()[-1])


def make_corpus(job: Job) -> None:
    """Text, vocabulary, and encoded text."""
    root, options = job.work, job.options
    vocabulary = root / "vocabulary"
    train, valid = root / "corpus/train.parquet", root / "corpus/valid.parquet"
    if not train.exists():
        corpus, cleaning = options.section("corpus"), options.section("cleaning")
        call(
            "prepare_corpus", "--corpus", corpus, "--cleaning", cleaning, *options.mirror(), "--output", root / "corpus"
        )
    if not (vocabulary / "vocabulary.json").exists():
        section = options.section("vocabulary")
        call("train_vocabulary", "--vocabulary", section, "--corpus", train, "--output", vocabulary)
    if not (root / "encoded/encoding.parquet").exists():
        texts = ("--corpus", train, valid, "--counted", *job.layout.tests(), *options.lengths())
        call(
            "encode_corpus", "--vocabulary", vocabulary, *texts, "--threads", job.threads, "--output", root / "encoded"
        )


def train_teacher(job: Job) -> None:
    """The teacher alone on the device."""
    train(job, job.plan.runs(["teacher"]))


def train_students(job: Job) -> None:
    """All students side by side."""
    train(job, job.plan.runs(list(job.config.students)))


def train(job: Job, runs: Sequence[Run]) -> None:
    """Train these systems at the same time, each in a process of its own; raises NotFinished if any is not done."""
    waiting = [run for run in runs if not (checkpoint_of(job, run) / "model.json").exists()]
    if not waiting:
        return
    # a training needs a minute to begin and to save
    if job.seconds_left < 60:
        raise NotFinished(f"trainings: {job.seconds_left:.0f} s left")
    share = max(1, job.threads // len(waiting))
    processes = {run: start_training(job, run, share) for run in waiting}
    statuses = {run: process.wait() for run, process in processes.items()}
    failed = {run: status for run, status in statuses.items() if status not in (0, OUT_OF_TIME)}
    for run in failed:
        logger.error("%s failed:\n%s", run, log_of(job, run).read_text()[-3000:])
    if failed:
        raise RetortError(f"{len(failed)} training(s) failed: {', '.join(map(str, failed))}; their logs are above")
    unfinished = [str(run) for run, status in statuses.items() if status == OUT_OF_TIME]
    if unfinished:
        raise NotFinished(f"trainings: {', '.join(unfinished)} are saved and not done")


def start_training(job: Job, run: Run, threads: int) -> subprocess.Popen[bytes]:
    """The process that trains a system."""
    options, layout = job.options, job.layout
    system = job.config.trained[run.system]
    arguments = [
        *("--system", options.system(run.system), "--seed", run.seed, "--data", system.data),
        *("--train", job.plan.training_text(run.system, run.seed), "--valid", job.work / "encoded/valid.parquet"),
        *("--vocabulary", job.work / "vocabulary", *options.start(run.system, run.seed), *options.teacher(run.system)),
        *("--state", job.work / "state", "--time-limit", job.seconds_left / 60, "--threads", threads),
        *("--output", layout.checkpoint_directory(run.system, run.seed)),
    ]
    log_of(job, run).parent.mkdir(parents=True, exist_ok=True)
    with log_of(job, run).open("ab") as log:
        command = [sys.executable, str(ROOT / "workflow_scripts/train_system.py"), *map(str, arguments)]
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=environment())


def distil(job: Job) -> None:
    """The teacher's translations of the training sources, as text to train on."""
    root, directory = job.work, job.work / "distilled"
    if (directory / "encoded.parquet").exists():
        return
    job.require("distillation")
    section = job.options.section("distillation", without={"corpus"})
    shard = directory / "shard.parquet"
    if not shard.exists():
        text = ("--corpus", root / "corpus/train.parquet", "--shard", 0, "--shards", 1, "--state", root / "state")
        teacher = ("--checkpoint", checkpoint_of(job, job.plan.first_run("teacher")), *job.options.decoder())
        call("decode_shard", "--distillation", section, *teacher, *text, "--threads", job.threads, "--output", shard)
    outputs = (
        "--output-translations",
        directory / "translations.parquet",
        "--output-encoded",
        directory / "encoded.parquet",
    )
    train = ("--train", root / "encoded/train.parquet", "--vocabulary", root / "vocabulary")
    call("gather_distilled", "--shards", shard, *train, *outputs)


def score(job: Job) -> None:
    """Translations of the test sets by every system and search, and their quality."""
    evaluation, tests = job.options.section("evaluation", "metrics", "tokenizer"), job.layout.tests()
    for run in job.plan.decodings():
        translations, scores = Path(job.layout.translations(run)), Path(job.layout.scores(run))
        if scores.exists() or not (checkpoint_of(job, run) / "model.json").exists():
            continue
        job.require("scores")
        search = job.options.search(run.system, run.search)
        names = ("--system", run.system, "--seed", run.seed, "--search-name", run.search)
        source = ("--checkpoint", checkpoint_of(job, run), *job.options.rescoring(run.system, run.search))
        size = ("--batch-tokens", job.config.distillation.batch_tokens, "--threads", job.threads)
        call("translate", *source, "--search", search, *names, *size, "--tests", *tests, "--output", translations)
        data = ("--data", job.config.systems[run.system].data)
        call("score", "--translations", translations, "--tests", *tests, *data, "--evaluation", evaluation,
             "--output", scores)  # fmt: skip


def time_systems(job: Job) -> None:
    """Every system and search, one precision after the other; in each, batch by batch in turn."""
    settings: Latency = job.config.latency
    device = prepare_device(settings.threads or job.threads)
    texts = read_table(job.layout.tests()[0], CORPUS, ["source"]).column("source").to_pylist()
    for precision in job.precisions:
        output = job.work / f"latency/{precision}.parquet"
        if output.exists():
            continue
        job.require("latency")
        loaded = {run: open_system(checkpoint_of(job, run), None, job.threads, precision) for run in job.plan.runs()}
        systems = [
            Timed(
                run.system,
                run.seed,
                search_name=run.search,
                loaded=loaded[Run(run.system, run.seed)].with_search(search.model_dump()),
            )
            for run in job.plan.decodings()
            if not (search := job.config.systems[run.system].searches[run.search]).needs_teacher
        ]
        rows = [timing.row() for timing in measure(systems, texts, settings)]
        table = LATENCY.of_rows(rows)
        write_table(
            output, LATENCY, data=table, provenance=provenance(device=describe_device(device), precision=precision)
        )


def bring_back(job: Job) -> None:
    """Tables of all that is there, and the files that are worth their size."""
    job.out.mkdir(parents=True, exist_ok=True)
    write_tables(job.plan, job.work, job.out, job.precisions)
    for path in (job.work / "tests.txt", job.work / "distilled/translations.parquet"):
        if path.exists():
            shutil.copy(path, job.out / path.name)
    logs = [f"==> {log.name}\n{log.read_text()[-4000:]}" for log in sorted((job.work / "logs").glob("*.log"))]
    (job.out / "logs.txt").write_text("\n".join(logs))


def checkpoint_of(job: Job, run: Run) -> Path:
    """Directory of a system's checkpoint."""
    return Path(job.layout.checkpoint_directory(run.system, run.seed))


def log_of(job: Job, run: Run) -> Path:
    """Log of a system's training."""
    return job.work / f"logs/{run.system}-seed{run.seed}.log"


def environment() -> dict[str, str]:
    """That of other processes: they import this checkout, which is not installed."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


STEPS: dict[str, Callable[[Job], None]] = {
    "tests": run_tests,
    "corpus": make_corpus,
    "teacher": train_teacher,
    "distillation": distil,
    "students": train_students,
    "scores": score,
    "latency": time_systems,
}


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--config", type=Path, required=True, help="configuration of the run")
    arguments.add_argument("--work", type=Path, required=True, help="directory that keeps everything between calls")
    arguments.add_argument("--out", type=Path, required=True, help="directory of what is brought back")
    arguments.add_argument("--minutes", type=float, default=9.0, help="time that this call has (default 9)")
    arguments.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), help="default: all")
    arguments.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"], help="of latency")
    arguments.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 done, 75 call again, 2 an error."""
    args = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True)
    started = time.monotonic()
    config = load_files([args.config], {})
    job = Job(
        config,
        args.work,
        out=args.out,
        precisions=args.precisions,
        threads=args.threads,
        ends=started + 60 * args.minutes,
    )
    job.work.mkdir(parents=True, exist_ok=True)
    device = prepare_device(job.threads)
    write_json(
        job.work / "machine.json",
        describe_device(device) | {"python": sys.version.split()[0], "torch": torch.__version__},
    )
    status = 0
    try:
        for name in args.steps:
            begun = time.monotonic()
            STEPS[name](job)
            logger.info("%s: %.0f s, %.0f s left", name, time.monotonic() - begun, job.seconds_left)
    except NotFinished as reason:
        logger.info("call again: %s", reason)
        status = OUT_OF_TIME
    except RetortError as error:
        logger.error("error: %s", error)
        status = 2
    bring_back(job)
    print(json.dumps({"status": status, "seconds": round(time.monotonic() - started), "out": str(job.out)}))
    return status


if __name__ == "__main__":
    sys.exit(main())
