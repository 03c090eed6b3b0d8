"""Systems loaded for timing: each checkpoint in each engine that can run it, and what it takes there."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator

from retort.config import Latency, NgramSearch, Search
from retort.data.files import text_or_file
from retort.data.parquet import read_provenance
from retort.data.tables import WITH_SHORTLIST
from retort.data.vocabulary import Vocabulary
from retort.engines import Engine, ExportEngine
from retort.errors import RetortError
from retort.export.base import exporter_of
from retort.export.exporting import Listed, export_system, list_candidates
from retort.models.checkpoint import described, read_description
from retort.runtime import System, open_system
from retort.runtime.cold_start import cold_start
from retort.runtime.timing import Timed, directory_bytes


def _read(search: Any) -> Any:
    """The content of ``@file.json``, and every other form of a search as it is."""
    if not isinstance(search, str):
        return search
    try:
        return json.loads(text_or_file(search))
    except (RetortError, ValueError) as error:
        raise ValueError(f"{search}: {error}") from None


class TimedSystem(BaseModel):
    """A checkpoint with a search that is to be timed."""

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

    def takes_more(self, engine: Engine) -> bool:
        """Whether the search takes more in an engine than the checkpoint: a table of n-grams, or a teacher."""
        return self.table is not None or (engine == "torch" and self.search.needs_teacher)


class TimedSystems:
    """Systems to time, each checkpoint loaded once per engine from a directory where it is exported to.

    What it takes is measured once per engine with the first of its searches that take nothing more: the others' size is
    the same, their memory about so, and a cold start costs processes. A search with a table of n-grams, or a teacher
    that rescores, is measured by itself.
    """

    def __init__(
        self,
        entries: Sequence[TimedSystem],
        settings: Latency,
        training_text: Path | None,
        texts: Sequence[str],
        threads: int,
        directory: Path,
    ) -> None:
        """``training_text``: encoded table that shortlists are made from. ``texts`` are what new processes
        translate."""
        self.entries, self.settings, self.training_text = entries, settings, training_text
        self.texts, self.threads, self.directory = texts, threads, directory
        self.teachers = {entry.checkpoint: entry.teacher for entry in self.entries if entry.teacher}
        self._systems: dict[tuple[Path, Engine, bool], System] = {}
        self._measured: set[tuple[Path, Engine, bool, str | None]] = set()
        self._listed: Listed | None = None
        self.facts: list[dict[str, Any]] = []
        """Size on disk, what loading took, cold start and peak memory of each checkpoint and engine. ``search`` names
        the search that takes more, which they are of; None: all others."""
        self.omitted: list[dict[str, Any]] = []
        """Engines that cannot run a system and search, and why."""

    def timed(self) -> list[Timed]:
        """Every system and search in each of the engines that can run it, and with a shortlist if that is asked for.

        Raises RetortError for what an engine can run and that cannot be exported.
        """
        return [
            Timed(
                entry.system,
                entry.seed,
                search_name=entry.search_name,
                loaded=self._system(entry, engine, has_list).with_search(entry.search.model_dump()),
            )
            for entry in self.entries
            for engine in self.settings.engines
            for has_list in self._lists(entry, engine)
        ]

    def _lists(self, entry: TimedSystem, engine: Engine) -> list[bool]:
        """Whether an engine has a shortlist, for each of the forms in which it runs a system and search."""
        if engine == "torch":
            return [False]
        if reason := self._unsupported(entry, engine):
            self._omit(entry, engine, reason)
            return []
        if not self.settings.shortlist_size or not self.training_text:
            return [False]
        listed = self._listed.vocabulary if self._listed else read_provenance(self.training_text).get("vocabulary")
        if listed in (None, Vocabulary.load(entry.checkpoint).digest):
            return [False, True]
        self._omit(entry, engine + WITH_SHORTLIST, "the vocabulary is not that of the shortlist's text")
        return [False]

    def _unsupported(self, entry: TimedSystem, engine: ExportEngine) -> str | None:
        """Why an engine cannot run a system and search; None: it can."""
        exporter = exporter_of(engine)
        objective, model = described(entry.checkpoint, read_description(entry.checkpoint))
        if reason := exporter.unsupported(objective, model):
            return reason
        if entry.search.kind not in exporter.searches(objective):
            return f"{exporter.TITLE} has no search {entry.search.kind}"
        return "an exported system asks no teacher" if entry.search.needs_teacher else None

    def _omit(self, entry: TimedSystem, engine: str, reason: str) -> None:
        named = {"system": entry.system, "seed": entry.seed, "search": entry.search_name}
        self.omitted.append({**named, "engine": engine, "reason": reason})

    def _system(self, entry: TimedSystem, engine: Engine, has_list: bool) -> System:
        key = (entry.checkpoint, engine, has_list)
        measured = (*key, entry.search_name if entry.takes_more(engine) else None)
        if measured not in self._measured:
            self._measured.add(measured)
            directory = entry.checkpoint if engine == "torch" else self._exported(entry, engine, has_list)
            system = self._open(entry, engine, directory)
            # all searches are timed with the same weights in memory
            self._systems.setdefault(key, system)
        return self._systems[key]

    def _exported(self, entry: TimedSystem, engine: ExportEngine, has_list: bool) -> Path:
        """The bundle of a checkpoint, with the search's table if it has one."""
        directory = self.directory / str(len(self._measured))
        try:
            export_system(
                entry.checkpoint,
                directory,
                engine=engine,
                precision=self.settings.exported_precision,
                search=entry.search.model_dump(),
                shortlist=self._shortlist(entry, self.training_text) if has_list and self.training_text else None,
            )
        except RetortError as error:
            raise RetortError(
                f"{entry.checkpoint} cannot be exported to be timed in {engine}: {error} (latency.engines names the "
                f"engines that time)"
            ) from None
        return directory

    def _shortlist(self, entry: TimedSystem, training_text: Path) -> Listed:
        """The shortlist, made once for all systems."""
        if self._listed is None:
            vocabulary = Vocabulary.load(entry.checkpoint)
            self._listed = list_candidates(training_text, vocabulary, self.settings.shortlist_size)
        return self._listed

    def _open(self, entry: TimedSystem, engine: Engine, directory: Path) -> System:
        if engine == "torch":
            precision, teacher = self.settings.precision, self.teachers.get(entry.checkpoint)
        else:
            precision, teacher = None, None
        # a bundle contains the table, a checkpoint does not
        beside = entry.table.stat().st_size if entry.table and engine == "torch" else 0
        if entry.teacher and entry.takes_more(engine):
            beside += directory_bytes(entry.teacher)
        start, processor_start = time.perf_counter(), time.process_time()
        system = open_system(directory, None, self.threads, precision, teacher)
        self.facts.append(
            {
                "system": entry.system,
                "seed": entry.seed,
                "search": entry.search_name if entry.takes_more(engine) else None,
                "engine": Timed(entry.system, entry.seed, search_name=entry.search_name, loaded=system).engine,
                "precision": system.precision,
                "bytes": directory_bytes(directory) + beside,
                "loading_seconds": time.perf_counter() - start,
                "loading_processor_seconds": time.process_time() - processor_start,
                **self._started(entry, directory, system=system, teacher=teacher if entry.takes_more(engine) else None),
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
