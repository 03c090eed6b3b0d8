"""The report's times: of each system and search in each engine that ran it, and how many times faster one is.

A system's latency is that in its fastest engine, and so is that of what it is compared with. Times are the clock's,
unless the machine was busy with other work: then they are the processor's, where those are known. The clock of a busy
machine does wrong to an engine that works in a thread of its own, which has to wait for its turn twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from retort.config import EXTERNAL
from retort.data.tables import WITH_SHORTLIST
from retort.evaluation.significance import SEED
from retort.report.inputs import Inputs, Row

SPEEDUP_SAMPLES = 1000
MIN_BATCHES = 6
"""Fewest batches that give a 95 % interval. It lies within their extremes, which enclose the true median with a
probability of 1 - 2^(1 - n) for n batches."""
BUSY = 1.1
"""Seconds by the clock per second on a processor from which a machine counts as busy with other work."""
LENGTHS = (10, 20, 40)
"""Longest sources, in tokens, of all buckets but the last."""

Key = tuple[str, str]
"""System and search."""
EngineKey = tuple[str, str, str]
"""System, search and engine."""
TimeColumn = Literal["total_seconds", "processor_seconds"]
"""The clock's time, or the processor's."""


@dataclass(frozen=True)
class Latency:
    """Text-to-text time of batches of one size in one engine, all repeats together, in seconds; of every seed that was
    timed, in a run the first.

    ``median``, ``low``, ``high`` and ``highest`` are of the times that systems are compared by; see ``time_column``.
    """

    engine: str
    precision: str
    batch_size: int
    batches: int
    """Different ones, each of which was timed ``repeats`` times."""
    repeats: int
    median: float
    low: float
    high: float
    """The 5th and the 95th percentile."""
    highest: float
    """The 99th percentile."""
    clock: float
    """Median of the time by the clock."""
    processor: float
    """Median of the time on processors."""
    model_share: float
    throughput: float
    """Sentences per second over all batches of this size, of the time that systems are compared by."""
    clock_throughput: float
    """Sentences per second by the clock."""
    processor_throughput: float
    """Sentences per second on a processor."""
    processor_per_million: float
    """Seconds on a processor per million characters of source text."""
    output_tokens: float
    """Tokens of an output, mean."""


@dataclass(frozen=True)
class Footprint:
    """What a system takes in an engine besides the time of its lines; None where it was not measured."""

    megabytes: float | None
    """Size of its files, the search's table of n-grams among them."""
    cold_start: float | None
    """Milliseconds from the start of a process to its first line, of the time that systems are compared by."""
    peak_megabytes: float | None
    """Largest memory of a process that translates lines one by one."""


@dataclass(frozen=True)
class Speedup:
    """How many times faster than the reference, and its bootstrap 95 % interval; NaN below ``MIN_BATCHES``."""

    ratio: float
    low: float
    high: float
    batches: int


def engine_latencies(inputs: Inputs, seed: int | None = None) -> dict[EngineKey, dict[int, Latency]]:
    """Latency by system, search and engine, and by batch size, in the config's order; of one seed, or of all."""
    columns = time_columns(inputs)
    groups: dict[EngineKey, dict[int, list[Row]]] = {}
    for row in inputs.latency:
        if seed is None or row["seed"] == seed:
            sizes = groups.setdefault((row["system"], row["search"], row["engine"]), {})
            sizes.setdefault(row["batch_size"], []).append(row)
    return {
        key: {size: _latency(size, rows, columns[key[0]]) for size, rows in sorted(groups[key].items())}
        for key in sorted(groups, key=lambda key: (inputs.order(*key[:2]), key[2]))
    }


def latencies(inputs: Inputs) -> dict[Key, dict[int, Latency]]:
    """Latency by system and search in its fastest engine: that with the lowest median at the smallest batch size."""
    by_engine = engine_latencies(inputs)
    return {key: by_engine[(*key, engine)] for key, engine in best_engines(by_engine).items()}


def best_engines(
    by_engine: dict[EngineKey, dict[int, Latency]], *, shortlist: bool = False, size: int | None = None
) -> dict[Key, str]:
    """The fastest engine of each system and search, among those that score the vocabulary, or a shortlist; at this
    batch size, or at the smallest."""
    best: dict[Key, tuple[float, str]] = {}
    for (system, search, engine), sizes in by_engine.items():
        if engine.endswith(WITH_SHORTLIST) == shortlist and (size is None or size in sizes):
            candidate = (sizes[min(sizes) if size is None else size].median, engine)
            best[system, search] = min(candidate, best.get((system, search), candidate))
    return {key: engine for key, (_, engine) in best.items()}


def _latency(batch_size: int, rows: list[Row], column: TimeColumn) -> Latency:
    total = np.array([row["total_seconds"] for row in rows])
    processor = np.array([row["processor_seconds"] for row in rows])
    low, median, high, highest = np.percentile([row[column] for row in rows], [5, 50, 95, 99])
    sentences = sum(row["sentences"] for row in rows)
    batches = len({(row["seed"], row["batch"]) for row in rows})
    elapsed, busy = max(total.sum(), 1e-12), max(processor.sum(), 1e-12)
    return Latency(
        engine=rows[0]["engine"],
        precision=rows[0]["precision"],
        batch_size=batch_size,
        batches=batches,
        repeats=len(rows) // batches,
        median=float(median),
        low=float(low),
        high=float(high),
        highest=float(highest),
        clock=float(np.median(total)),
        processor=float(np.median(processor)),
        model_share=float(sum(row["model_seconds"] for row in rows) / elapsed),
        throughput=float(sentences / (elapsed if column == "total_seconds" else busy)),
        clock_throughput=float(sentences / elapsed),
        processor_throughput=float(sentences / busy),
        processor_per_million=float(busy / max(sum(row["source_characters"] for row in rows), 1) * 1e6),
        output_tokens=sum(row["target_tokens"] for row in rows) / max(sentences, 1),
    )


def rival_key(inputs: Inputs) -> Key | None:
    """The fastest of the systems and searches that decode from left to right, at the smallest batch size."""
    medians = {
        key: sizes[min(sizes)].median for key, sizes in latencies(inputs).items() if _is_left_to_right(inputs, key)
    }
    return min(medians, key=lambda key: medians[key], default=None)


def _is_left_to_right(inputs: Inputs, key: Key) -> bool:
    system = inputs.systems.get(key[0])
    return system is not None and key[1] in system.searches and system.searches[key[1]].decodes == "next_token"


def deep_reference(inputs: Inputs) -> int | None:
    """Decoder layers of what speed-ups are over, where it decodes from left to right; None where it does not, or is an
    external teacher."""
    reference = inputs.config.reference
    return _layers(inputs, reference[0])[1] if _is_left_to_right(inputs, reference) else None


def has_shallow_rival(inputs: Inputs) -> bool:
    """Whether a system with few decoder layers was timed from left to right: fewer than the reference, or one; where
    the reference's are not known, fewer than it has in its encoder."""
    deep = deep_reference(inputs)
    for key in latencies(inputs):
        if _is_left_to_right(inputs, key):
            encoder, decoder = _layers(inputs, key[0])
            if decoder == 1 or decoder < (encoder if deep is None else deep):
                return True
    return False


def _layers(inputs: Inputs, system: str) -> tuple[int, int]:
    """Encoder and decoder layers; those of a given checkpoint are its own."""
    model = inputs.systems[system].model
    described = [own.description.get("model") for run, own in inputs.checkpoints.items() if run.system == system]
    known = described[0] if described and isinstance(described[0], dict) else {}
    layers = [known.get(key, getattr(model, key)) for key in ("encoder_layers", "decoder_layers")]
    return layers[0], layers[1]


def speedups(inputs: Inputs, reference: Key | None) -> dict[tuple[str, str, str, int], Speedup]:
    """Speed-up over the reference in the engine that is fastest at the batch size, by system, search, engine and batch
    size. What scores a shortlist is compared with the reference that does so, too. There is none where the times of one
    are the clock's and those of the other the processor's."""
    columns = time_columns(inputs)
    medians: dict[tuple[str, str, str, int], dict[int, list[float]]] = {}
    for row in inputs.latency:
        batches = medians.setdefault((row["system"], row["search"], row["engine"], row["batch_size"]), {})
        batches.setdefault(row["batch"], []).append(row[columns[row["system"]]])
    if reference is None:
        return {}
    by_engine = engine_latencies(inputs)
    engines = {
        (listed, size): best_engines(by_engine, shortlist=listed, size=size).get(reference, "")
        for listed in (False, True)
        for size in {key[3] for key in medians}
    }
    result = {}
    for (system, search, own, size), batches in medians.items():
        base = medians.get((*reference, engines[own.endswith(WITH_SHORTLIST), size], size))
        common = sorted(base.keys() & batches.keys()) if base else []
        if base and common and columns[system] == columns[reference[0]]:
            result[system, search, own, size] = speedup(
                [float(np.median(base[batch])) for batch in common],
                [float(np.median(batches[batch])) for batch in common],
            )
    return result


def best_speedups(inputs: Inputs, reference: Key | None) -> dict[Key, Speedup]:
    """Speed-up over the reference at batch size 1, both in their fastest engines."""
    by_engine = speedups(inputs, reference)
    best = best_engines(engine_latencies(inputs))
    return {key: by_engine[(*key, engine, 1)] for key, engine in best.items() if (*key, engine, 1) in by_engine}


def speedup(reference: list[float], system: list[float]) -> Speedup:
    """Ratio of the median times of the same batches, and its percentile bootstrap interval over batches."""
    slow, fast = np.array(reference), np.array(system)
    ratio = float(np.median(slow) / np.median(fast))
    if len(slow) < MIN_BATCHES:
        return Speedup(ratio, low=math.nan, high=math.nan, batches=len(slow))
    drawn = np.random.default_rng(SEED).integers(len(slow), size=(SPEEDUP_SAMPLES, len(slow)))
    ratios = np.median(slow[drawn], axis=1) / np.median(fast[drawn], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Speedup(ratio, low=float(low), high=float(high), batches=len(slow))


def by_length(inputs: Inputs) -> dict[EngineKey, list[float | None]]:
    """Median seconds of sentences decoded one by one, by the length of the source: see ``LENGTHS``; None where there
    is no such sentence."""
    columns = time_columns(inputs)
    groups: dict[EngineKey, list[list[float]]] = {}
    for row in inputs.latency:
        if row["batch_size"] == 1:
            buckets = groups.setdefault((row["system"], row["search"], row["engine"]), [[] for _ in (*LENGTHS, None)])
            buckets[int(np.searchsorted(LENGTHS, row["source_tokens"]))].append(row[columns[row["system"]]])
    return {key: [float(np.median(times)) if times else None for times in groups[key]] for key in groups}


def busy_ratio(inputs: Inputs) -> float | None:
    """Seconds by the clock per second on a processor, of all systems that were timed on one thread of a CPU; None
    without times, or where the two cannot be compared. An external teacher may wait for a device or a server."""
    device: dict[str, Any] = inputs.latency_provenance.get("device") or {}
    rows = [row for row in inputs.latency if row["system"] != EXTERNAL]
    if not rows or device.get("type") != "cpu" or device.get("threads") != 1:
        return None
    total = sum(row["total_seconds"] for row in rows)
    return float(total / max(sum(row["processor_seconds"] for row in rows), 1e-12))


def time_column(inputs: Inputs, system: str = "") -> TimeColumn:
    """Column of the table that a system's times are compared by; those of an external teacher that may wait are the
    clock's."""
    ratio = busy_ratio(inputs)
    is_busy = ratio is not None and ratio > BUSY
    return "processor_seconds" if is_busy and not (system == EXTERNAL and _teacher_waits(inputs)) else "total_seconds"


def time_columns(inputs: Inputs) -> dict[str, TimeColumn]:
    """The column of every timed system."""
    return {system: time_column(inputs, system) for system in {row["system"] for row in inputs.latency}}


def _teacher_waits(inputs: Inputs) -> bool:
    section = inputs.config.external_teacher
    return section is None or section.waits


def changed_outputs(inputs: Inputs) -> dict[EngineKey, tuple[int, int]]:
    """Outputs that differ from torch's, and the sentences compared, by system, search and engine."""
    facts = inputs.latency_provenance.get("changed_outputs") or []
    return {(f["system"], f["search"], f["engine"]): (f["changed"], f["sentences"]) for f in facts}


def omissions(inputs: Inputs) -> dict[tuple[str, str], list[Key]]:
    """Systems and searches that an engine cannot run, by engine and reason."""
    grouped: dict[tuple[str, str], list[Key]] = {}
    for fact in inputs.latency_provenance.get("omitted") or []:
        grouped.setdefault((fact["engine"], fact["reason"]), []).append((fact["system"], fact["search"]))
    return grouped


def engine_footprints(inputs: Inputs) -> dict[EngineKey, Footprint]:
    """What each timed system takes by system, search and engine. Searches with neither a table of n-grams nor a
    teacher share one measurement."""
    cold_start = "cold_start_processor_seconds" if time_column(inputs) == "processor_seconds" else "cold_start_seconds"
    scales = {"bytes": 1e-6, cold_start: 1e3, "peak_bytes": 1e-6}
    facts = inputs.latency_provenance.get("loaded") or []
    loaded = {(fact["system"], fact.get("search"), fact["engine"]): fact for fact in facts}
    return {
        key: Footprint(*(fact[name] * scale if fact.get(name) else None for name, scale in scales.items()))
        for key in dict.fromkeys((row["system"], row["search"], row["engine"]) for row in inputs.latency)
        for fact in [loaded.get(key) or loaded.get((key[0], None, key[2]), {})]
    }
