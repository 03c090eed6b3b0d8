"""Time all systems on one test set, in each engine that can run them, interleaved on this machine."""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from retort.config import EXTERNAL, ExternalTeacher, Latency
from retort.data.parquet import read_table, write_table
from retort.data.provenance import provenance
from retort.data.tables import CORPUS, LATENCY
from retort.data.vocabulary import Vocabulary
from retort.export.timed_systems import TimedSystem, TimedSystems
from retort.filenames import test_set_of
from retort.models.checkpoint import weights_digest
from retort.runtime.external_engine import ExternalSystem
from retort.runtime.timing import Timed, changed_outputs, machine_load, measure, processor_name
from retort.search import native
from retort.teachers.asking import SEED
from retort.teachers.base import open_external
from retort.training.device import describe_device, prepare_device
from retort.workflow.arguments import threads
from retort.workflow.scripting import run_script, section

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS")
"""What Snakemake sets for each job, and mathematical libraries read."""


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--systems", type=section(list[TimedSystem]), required=True, help="JSON list")
    arguments.add_argument("--external", type=section(ExternalTeacher), help="external_teacher to time too, JSON")
    arguments.add_argument("--vocabulary", type=Path, help="directory; its tokens are those of an external teacher")
    arguments.add_argument("--latency", type=section(Latency), required=True)
    arguments.add_argument("--tests", type=Path, required=True, help="corpus table test.<name>.parquet")
    arguments.add_argument(
        "--training-text", type=Path, nargs="*", default=[], help="encoded table that shortlists are made from"
    )
    arguments.add_argument("--threads", type=threads, default=1)
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def external(section: Any, vocabulary: Path, split: str, threads: int) -> Timed:
    """The external teacher, which is asked anew: no kept answer counts."""
    loaded = ExternalSystem(open_external(section, split, threads), Vocabulary.load(vocabulary), section.kind)
    return Timed(EXTERNAL, SEED, search_name=section.kind, loaded=loaded)


def main(args: argparse.Namespace) -> None:
    load = machine_load()
    settings, threads = args.latency, args.latency.threads or args.threads
    # Snakemake's are the cores that the job reserves; engines, and programs that are started, would take them all
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    device = prepare_device(threads)
    texts = read_table(args.tests, CORPUS, ["source"]).column("source").to_pylist()
    with tempfile.TemporaryDirectory() as directory:
        training_text = args.training_text[0] if args.training_text else None
        loader = TimedSystems(
            args.systems, settings, training_text, texts=texts, threads=threads, directory=Path(directory)
        )
        systems = loader.timed()
        if args.external:
            systems.append(external(args.external, args.vocabulary, split=test_set_of(args.tests), threads=threads))
        timings = list(measure(systems, texts, settings))
    rows = [timing.row() for timing in timings]
    n_grams = "compiled" if native.library() else "Python"
    machine = {"machine": processor_name(), "cpus": os.cpu_count(), "n-gram search": n_grams}
    facts = provenance(
        test_set=test_set_of(args.tests),
        latency=settings.model_dump(mode="json"),
        searches={
            f"{entry.system}/{entry.search_name}": entry.search.model_dump(mode="json", exclude_defaults=True)
            for entry in args.systems
        },
        checkpoints={str(entry.checkpoint): weights_digest(entry.checkpoint) for entry in args.systems},
        teachers={str(e.teacher): weights_digest(e.teacher) for e in args.systems if e.teacher},
        device=describe_device(device) | machine,
        shortlist=loader.shortlist_facts(),
        load={"before": load, "after": machine_load()},
        loaded=loader.facts,
        omitted=loader.omitted,
        changed_outputs=changed_outputs(timings),
    )
    write_table(args.output, LATENCY, data=LATENCY.of_rows(rows), provenance=facts)
    logging.info("%d batches of %d systems timed", len(rows), len(systems))


if __name__ == "__main__":
    run_script(parser(), main)
