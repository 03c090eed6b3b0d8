"""Tables of a run on a GPU: trainings, quality, and latency against the teacher and the deep-shallow rival."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from retort.data.files import write_json
from retort.data.parquet import read_table
from retort.data.runs import Run
from retort.data.tables import LATENCY, SCORES
from retort.workflow.plan import Plan

RIVAL = "deep-shallow"
"""Name of the autoregressive student with a deep encoder and one decoder layer, the rival of parallel ones."""
DESCRIBED = ("parameters", "updates", "epochs", "target_tokens", "train_seconds", "stopped_by")


def write_tables(plan: Plan, work: Path, out: Path, precisions: Sequence[str]) -> None:
    """Write tables.md and results.json of what is there."""
    machine = json.loads((work / "machine.json").read_text())
    trainings = [training for run in plan.runs() if (training := training_of(plan, run))]
    scores = [row for run in plan.decodings() for row in scores_of(Path(plan.layout.scores(run)))]
    latencies = [row for precision in precisions for row in latency_of(work / f"latency/{precision}.parquet")]
    tests = work / "tests.txt"
    summary = tests.read_text().strip().splitlines()[-1] if tests.exists() else "not run"
    write_json(
        out / "results.json",
        {"machine": machine, "tests": summary, "trainings": trainings, "scores": scores, "latency": latencies},
    )
    lines = [f"Device: {machine['name']} ({machine['type']}), torch {machine['torch']}, Python {machine['python']}."]
    lines += [
        "",
        f"Tests marked gpu: {summary}.",
        "",
        *training_table(trainings),
        "",
        *quality_table(scores, latencies),
    ]
    (out / "tables.md").write_text("\n".join(lines) + "\n")


def training_of(plan: Plan, run: Run) -> dict[str, Any] | None:
    """Facts of a finished training."""
    path = Path(plan.layout.checkpoint_directory(run.system, run.seed)) / "model.json"
    if not path.exists():
        return None
    description = json.loads(path.read_text())
    return {"system": run.system, "seed": run.seed, **{key: description[key] for key in DESCRIBED}}


def scores_of(path: Path) -> list[dict[str, Any]]:
    """Rows of a scores table, none if it is not there."""
    return read_table(path, SCORES).to_pylist() if path.exists() else []


def latency_of(path: Path) -> list[dict[str, Any]]:
    """Per system, search and batch size: median milliseconds of a sentence, and sentences per second."""
    if not path.exists():
        return []
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in read_table(path, LATENCY).to_pylist():
        groups.setdefault((row["system"], row["search"], row["precision"], row["batch_size"]), []).append(row)
    return [
        {
            "system": system,
            "search": search,
            "precision": precision,
            "batch_size": size,
            "milliseconds": 1000 * statistics.median(row["total_seconds"] / row["sentences"] for row in rows),
            "sentences_per_second": sum(r["sentences"] for r in rows) / sum(r["total_seconds"] for r in rows),
        }
        for (system, search, precision, size), rows in groups.items()
    ]


def training_table(trainings: Iterable[dict[str, Any]]) -> list[str]:
    """One row per training."""
    rows = [
        f"| {t['system']} | {t['parameters'] / 1e6:.1f} | {t['updates']:,} | {t['epochs']} | "
        f"{t['target_tokens'] / 1e6:.1f} | {t['train_seconds'] / 60:.1f} | {t['stopped_by']} |"
        for t in trainings
    ]
    head = "| system | million parameters | updates | epochs | million target tokens | minutes | stopped by |"
    return [head, rule(head), *rows]


def quality_table(scores: Sequence[dict[str, Any]], latencies: Sequence[dict[str, Any]]) -> list[str]:
    """One row per system and search: scores, length ratio, and times in each precision and batch size."""
    columns = list(dict.fromkeys((row["test_set"], row["metric"]) for row in scores if row["metric"] in SHOWN))
    timings = list(dict.fromkeys((row["precision"], row["batch_size"]) for row in latencies))
    times = {(r["system"], r["search"], r["precision"], r["batch_size"]): r["milliseconds"] for r in latencies}
    values = {(r["system"], r["search"], r["test_set"], r["metric"]): r["value"] for r in scores}
    head = "| system | search | " + " | ".join(
        [
            *(f"{metric}, {test_set}" for test_set, metric in columns),
            *(f"ms, {precision}, batch {size} (times as fast as teacher beam, rival)" for precision, size in timings),
        ]
    )
    rows = []
    for system, search in dict.fromkeys((r["system"], r["search"]) for r in (*scores, *latencies)):
        cells = [number(values.get((system, search, *column))) for column in columns]
        for timing in timings:
            own = times.get((system, search, *timing))
            slowest = [
                fastest(times, name, timing=timing, search=kind) for name, kind in (("teacher", "beam"), (RIVAL, ""))
            ]
            ratios = ", ".join(number(other / own if own and other else None) for other in slowest)
            cells.append(f"{number(own, 2)} ({ratios})")
        rows.append(f"| {system} | {search} | " + " | ".join(cells) + " |")
    return [f"{head} |", rule(f"{head} |"), *rows]


SHOWN = ("BLEU", "chrF", "length_ratio")
"""Metrics and diagnostics of the table; results.json has all."""


def fastest(
    times: dict[tuple[str, str, str, int], float], system: str, timing: tuple[str, int], search: str
) -> float | None:
    """Milliseconds of the fastest search of a system whose name begins with ``search``."""
    own = [ms for (name, kind, *rest), ms in times.items() if name == system and kind.startswith(search) and
           tuple(rest) == timing]  # fmt: skip
    return min(own, default=None)


def number(value: float | None, digits: int = 1) -> str:
    """The value, or nothing."""
    return "" if value is None else f"{value:.{digits}f}"


def rule(head: str) -> str:
    """The line below a table's head."""
    return "|" + "---|" * (head.count("|") - 1)
