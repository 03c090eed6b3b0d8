"""Time all systems on one test set, in each engine that can run them, interleaved on this machine."""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from pydantic import BaseModel, BeforeValidator

from retort.config import EXTERNAL, Engine, ExternalTeacher, Latency, NgramSearch, Search
from retort.data.files import text_or_file
from retort.data.parquet import read_table, write_table
from retort.data.provenance import provenance
from retort.data.tables import CORPUS, LATENCY
from retort.data.vocabulary import Vocabulary
from retort.errors import RetortError
from retort.evaluation.runs import test_set_of
from retort.export.exporting import ExportEngine, Listed, export_system, list_candidates
from retort.models.checkpoint import weights_digest
from retort.runtime import System, open_system
from retort.runtime.cold_start import cold_start
from retort.runtime.external_engine import ExternalSystem
from retort.runtime.timing import Timed, changed_outputs, directory_bytes, machine_load, measure
from retort.teachers.asking import SEED
from retort.teachers.base import open_external
from retort.training.device import describe_device, prepare_device
from retort.workflow.arguments import threads
from retort.workflow.scripting import run_script, section


def _read(search: Any) -> Any:
    """The content of ``@file.json``, and every other form of a search as it is."""
    if not isinstance(search, str):
        return search
    try:
        return json.loads(text_or_file(search))
    except (RetortError, ValueError) as error:
        raise ValueError(f"{search}: {error}") from None


class TimedSystem(BaseModel):
    """An element of --systems."""

    system: str
    seed: int
    checkpoint: Path
    search_name: str
    search: Annotated[Search, BeforeValidator(_read)]
    """Or ``@file.json``, for what is best on the validation set."""
    teacher: Path | None = None

    @property
    def table(self) -> Path | None:
        """The search's table of n-grams, if it has one."""
        return Path(self.search.table) if isinstance(self.search, NgramSearch) and self.search.table else None


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


class Loader:
    """Loads each checkpoint once per engine, from a directory where it is exported to.

    What it takes is measured once per engine with the first of its searches without a table of n-grams: the others'
    size is the same, their memory about so, and a cold start costs processes. A search with a table is exported and
    measured by itself.
    """

    def __init__(self, args: argparse.Namespace, texts: Sequence[str], threads: int, directory: Path) -> None:
        """``texts`` are what new processes translate."""
        self.entries: list[TimedSystem] = args.systems
        self.settings: Latency = args.latency
        self.training_text: list[Path] = args.training_text
        self.texts, self.threads, self.directory = texts, threads, directory
        self.teachers = {entry.checkpoint: entry.teacher for entry in self.entries if entry.teacher}
        self._systems: dict[tuple[Path, Engine, bool], System] = {}
        self._measured: set[tuple[Path, Engine, bool, str | None]] = set()
        self._listed: Listed | None = None
        self.facts: list[dict[str, Any]] = []
        """Size on disk, what loading took, cold start and peak memory of each checkpoint and engine. ``search`` names
        the search with a table that they are of; None: all searches without one."""

    def timed(self) -> list[Timed]:
        """Every system and search in each of the engines that can run it, and with a shortlist if that is asked for."""
        lists = (False, True) if self.settings.shortlist_size and self.training_text else (False,)
        return [
            Timed(
                entry.system,
                entry.seed,
                search_name=entry.search_name,
                loaded=system.with_search(entry.search.model_dump()),
            )
            for entry in self.entries
            for engine in self.settings.engines
            for has_list in (lists if engine != "torch" else (False,))
            if (system := self._system(entry, engine, has_list)) and self._can_run(entry, engine, system)
        ]

    def _can_run(self, entry: TimedSystem, engine: Engine, system: System) -> bool:
        return engine == "torch" or (entry.search.kind in system.kinds and not entry.search.needs_teacher)

    def _system(self, entry: TimedSystem, engine: Engine, has_list: bool) -> System | None:
        key = (entry.checkpoint, engine, has_list)
        measured = (*key, entry.search_name if entry.table else None)
        if measured not in self._measured:
            self._measured.add(measured)
            directory = entry.checkpoint if engine == "torch" else self._exported(entry, engine, has_list)
            if directory:
                system = self._open(entry, engine, directory)
                # all searches are timed with the same weights in memory
                self._systems.setdefault(key, system)
        return self._systems.get(key)

    def _exported(self, entry: TimedSystem, engine: ExportEngine, has_list: bool) -> Path | None:
        """The bundle of a checkpoint, with the search's table if it has one; None if the engine cannot run it."""
        directory = self.directory / str(len(self._measured))
        try:
            shortlist = self._shortlist(entry) if has_list else None
            export_system(
                entry.checkpoint,
                directory,
                engine=engine,
                precision=self.settings.exported_precision,
                search=entry.search.model_dump() if entry.table else None,
                shortlist=shortlist,
            )
        except RetortError as error:
            logging.info("%s is not timed in %s: %s", entry.system, engine, error)
            return None
        return directory

    def _shortlist(self, entry: TimedSystem) -> Listed:
        """The shortlist, made once for all systems."""
        if self._listed is None:
            vocabulary = Vocabulary.load(entry.checkpoint)
            self._listed = list_candidates(self.training_text[0], vocabulary, self.settings.shortlist_size)
        return self._listed

    def _open(self, entry: TimedSystem, engine: Engine, directory: Path) -> System:
        if engine == "torch":
            precision, teacher = self.settings.precision, self.teachers.get(entry.checkpoint)
        else:
            precision, teacher = None, None
        # a bundle contains the table, a checkpoint does not
        beside = entry.table.stat().st_size if entry.table and engine == "torch" else 0
        start, processor_start = time.perf_counter(), time.process_time()
        system = open_system(directory, None, self.threads, precision, teacher)
        self.facts.append(
            {
                "system": entry.system,
                "seed": entry.seed,
                "search": entry.search_name if entry.table else None,
                "engine": Timed(entry.system, entry.seed, search_name=entry.search_name, loaded=system).engine,
                "precision": system.precision,
                "bytes": directory_bytes(directory) + beside,
                "loading_seconds": time.perf_counter() - start,
                "loading_processor_seconds": time.process_time() - processor_start,
                **self._started(entry, directory, system=system, teacher=teacher),
            }
        )
        return system

    def shortlist_facts(self) -> dict[str, Any] | None:
        """What is known about the shortlist; None without one."""
        return self._listed.facts if self._listed else None

    def _started(self, entry: TimedSystem, directory: Path, system: System, teacher: Path | None) -> dict[str, Any]:
        """Facts about new processes that open a system, with the entry's search if it has that."""
        if not self.settings.cold_starts:
            return {}
        kind = entry.search.kind in system.kinds and (teacher or not entry.search.needs_teacher)
        search = entry.search.model_dump() if kind else None
        options = (self.settings.cold_starts, search, self.threads, system.precision, teacher)
        return asdict(cold_start(directory, self.texts, *options))


def external(section: Any, vocabulary: Path, split: str, threads: int) -> Timed:
    """The external teacher, which is asked anew: no kept answer counts."""
    loaded = ExternalSystem(open_external(section, split, threads), Vocabulary.load(vocabulary))
    return Timed(EXTERNAL, SEED, search_name=section.kind, loaded=loaded)


def main(args: argparse.Namespace) -> None:
    settings, threads = args.latency, args.latency.threads or args.threads
    device = prepare_device(threads)
    texts = read_table(args.tests, CORPUS, ["source"]).column("source").to_pylist()
    with tempfile.TemporaryDirectory() as directory:
        loader = Loader(args, texts, threads=threads, directory=Path(directory))
        systems = loader.timed()
        if args.external:
            systems.append(external(args.external, args.vocabulary, split=test_set_of(args.tests), threads=threads))
        load = machine_load()
        timings = list(measure(systems, texts, settings))
    rows = [timing.row() for timing in timings]
    data = pa.table({c.name: pa.array([row[c.name] for row in rows], c.type) for c in LATENCY.columns})
    machine = {"machine": platform.processor() or platform.machine(), "cpus": os.cpu_count()}
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
        changed_outputs=changed_outputs(timings),
    )
    write_table(args.output, LATENCY, data=data, provenance=facts)
    logging.info("%d batches of %d systems timed", len(rows), len(systems))


if __name__ == "__main__":
    run_script(parser(), main)
