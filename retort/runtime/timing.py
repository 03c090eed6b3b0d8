"""Timing of systems on real sentences: warmed up, and in turns, whatever engine runs them."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retort.config import Latency
from retort.data.tables import WITH_SHORTLIST
from retort.runtime.external_engine import ExternalSystem
from retort.runtime.system import System
from retort.search.ngram_scores import forget_scores


@dataclass(frozen=True)
class Timed:
    """A system to time with one search in one engine, loaded and ready."""

    system: str
    seed: int
    search_name: str
    loaded: System | ExternalSystem

    @property
    def engine(self) -> str:
        """Its name in the LATENCY table."""
        return self.loaded.engine + (WITH_SHORTLIST if self.loaded.has_shortlist else "")


@dataclass(frozen=True)
class Times:
    """One batch of test sentences."""

    model_seconds: float
    """From token ids to token ids: encoder, decoder and search, its teacher too; of an external teacher, all of it."""
    total_seconds: float
    """From text to text."""
    processor_seconds: float
    """The same as this process spent it on processors."""
    source_tokens: int
    outputs: list[list[int]]
    """Target ids of each sentence."""


@dataclass(frozen=True)
class Timing:
    """A timed batch."""

    timed: Timed
    batch_size: int
    batch: int
    texts: list[str]
    times: Times

    def row(self) -> dict[str, Any]:
        """A row of the LATENCY table."""
        return {
            "system": self.timed.system,
            "seed": self.timed.seed,
            "search": self.timed.search_name,
            "engine": self.timed.engine,
            "precision": self.timed.loaded.precision,
            "batch_size": self.batch_size,
            "batch": self.batch,
            "sentences": len(self.texts),
            "source_characters": sum(map(len, self.texts)),
            "source_tokens": self.times.source_tokens,
            "target_tokens": sum(map(len, self.times.outputs)),
            "model_seconds": self.times.model_seconds,
            "total_seconds": self.times.total_seconds,
            "processor_seconds": self.times.processor_seconds,
        }


def measure(systems: Sequence[Timed], texts: Sequence[str], settings: Latency) -> Iterator[Timing]:
    """Time every system on the same batches, in turns of ``settings.turn`` sentences.

    Interleaving lets drifts of the machine hit all systems alike; batches with equal numbers hold equal sentences, so
    ratios can be taken batch by batch. Each turn begins without the scores of n-grams that are kept from sentence to
    sentence: those of the same sentences would be there, from another engine or the turn before.
    """
    for size in settings.batch_sizes:
        batches = test_batches(texts, size, settings.sentences)
        for timed in systems:
            for number in range(settings.warmup):
                time_batch(timed.loaded, batches[number % len(batches)])
        for _ in range(settings.repeats):
            for turn in _turns(batches, max(1, settings.turn // size)):
                for timed in systems:
                    forget_scores()
                    for number, batch in turn:
                        yield Timing(timed, size, batch=number, texts=batch, times=time_batch(timed.loaded, batch))


def _turns(batches: Sequence[list[str]], length: int) -> Iterator[list[tuple[int, list[str]]]]:
    """Numbered batches, so many at a time."""
    numbered = list(enumerate(batches))
    for start in range(0, len(numbered), length):
        yield numbered[start : start + length]


def test_batches(texts: Sequence[str], size: int, sentences: int) -> list[list[str]]:
    """Consecutive non-empty test sentences in batches of ``size``: ``sentences`` of them, rounded up to whole batches,
    and at least two batches, where there are as many sentences. A smaller batch at the end of the test set is left out
    if there is another."""
    texts = [text for text in texts if text.strip()]
    count = min(len(texts), max(sentences, 2 * size))
    batches = [list(texts[start : start + size]) for start in range(0, count, size)]
    if len(batches) > 1 and len(batches[-1]) < size:
        batches.pop()
    return batches


def time_batch(system: System | ExternalSystem, texts: list[str]) -> Times:
    """Time one batch of sentences, given at once. Engines return token ids, so a GPU has finished by then."""
    if isinstance(system, ExternalSystem):
        outputs, seconds, processor_seconds = system.translate(texts)
        sources = system.vocabulary.encode_source(texts)
        tokens = system.vocabulary.encode_target(outputs)
        return Times(
            seconds, seconds, processor_seconds=processor_seconds, source_tokens=sum(map(len, sources)), outputs=tokens
        )
    return _time_decoding(system, texts)


def _outputs(system: System, sources: Sequence[Sequence[int]]) -> list[list[int]]:
    """The tokens of each source's output; a source without tokens is not decoded, as in ``System.translate``."""
    given = [tokens for tokens in sources if tokens]
    decoded = iter(system.decode(given) if given else [])
    return [next(decoded).tokens if tokens else [] for tokens in sources]


def _time_decoding(system: System, texts: list[str]) -> Times:
    start, processor_start = time.perf_counter(), time.process_time()
    sources = system.encode(texts)
    model_start = time.perf_counter()
    outputs = _outputs(system, sources)
    model_seconds = time.perf_counter() - model_start
    system.vocabulary.decode_target(outputs)
    return Times(
        model_seconds=model_seconds,
        total_seconds=time.perf_counter() - start,
        processor_seconds=time.process_time() - processor_start,
        source_tokens=sum(map(len, sources)),
        outputs=outputs,
    )


def changed_outputs(timings: Iterable[Timing]) -> list[dict[str, Any]]:
    """How many outputs of each system and search differ between torch and another engine, of the sentences that both
    decoded one by one."""
    outputs: dict[tuple[str, int, str], dict[str, dict[int, list[list[int]]]]] = {}
    for timing in timings:
        if timing.batch_size == 1:
            timed = timing.timed
            engines = outputs.setdefault((timed.system, timed.seed, timed.search_name), {})
            engines.setdefault(timed.engine, {})[timing.batch] = timing.times.outputs
    return [
        {
            "system": system,
            "seed": seed,
            "search": search,
            "engine": engine,
            "sentences": len(batches),
            "changed": sum(engines["torch"][batch] != tokens for batch, tokens in batches.items()),
        }
        for (system, seed, search), engines in outputs.items()
        for engine, batches in engines.items()
        if engine != "torch" and "torch" in engines
    ]


def machine_load() -> float | None:
    """Processes that ran or waited for a processor, mean of the last minute; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def processor_name() -> str:
    """The processor as Linux names it; elsewhere its architecture."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def directory_bytes(directory: Path) -> int:
    """Size of the files in a directory."""
    return sum(path.stat().st_size for path in directory.iterdir() if path.is_file())
