"""The numbers of a run as CSV: one long table of what was measured, and one of the differences between systems."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from retort.data.tables import COMPARISON
from retort.filenames import MODEL_DESCRIPTION
from retort.report.inputs import Inputs, Row
from retort.report.mixing import mixed_systems
from retort.report.summary import SHARES, logged_means
from retort.report.timing import best_engines, engine_latencies, time_columns

COLUMNS = ("system", "data", "seed", "test_set", "search", "metric", "value", "signature")
TIMED = "|batch_size:{size}|batches:{batches}|repeats:{repeats}|engine:{engine}|precision:{precision}"
LATENCY_SIGNATURE = f"text to text, median over batches|time:{{time}}{TIMED}"
PROCESSOR_SIGNATURE = f"text to text on processors, median over batches{TIMED}"
KEPT_SIGNATURE = "share of samples, mean over the training"
LOSS_SIGNATURE = "of the final weights, on a sample of the training pairs"
NCM_SIGNATURE = "held-out -log p(y|x) / tokens, nats|pairs:{sentences}|infeasible:{infeasible}|tokens:{tokens}"
THROUGHPUT_SIGNATURE = f"text to text, sentences / total seconds|time:{{time}}{TIMED}"


def results_csv(inputs: Inputs) -> str:
    """Scores, latency per batch size, size, cost and shares of each training, NCM, scores by length, exposure bias.

    One row per system, training data, seed, test set, search and metric; columns that do not apply are empty.
    """
    parts = (_score_rows, _latency_rows, _training_rows, _modality_rows, _length_rows, _exposure_rows)
    return _csv(COLUMNS, [row for part in parts for row in part(inputs)])


def differences_csv(inputs: Inputs) -> str:
    """The comparison table: one row per system, seed, search, test set, baseline and metric."""
    return _csv(COMPARISON.schema.names, inputs.rows_in_order(inputs.comparison))


def _csv(columns: Sequence[str], rows: Sequence[Row]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _score_rows(inputs: Inputs) -> list[dict[str, Any]]:
    return [{column: row[column] for column in COLUMNS} for row in inputs.rows_in_order(inputs.scores)]


def _latency_rows(inputs: Inputs) -> list[dict[str, Any]]:
    data = inputs.training_data
    best, columns = best_engines(engine_latencies(inputs)), time_columns(inputs)
    rows = []
    for seed in sorted({row["seed"] for row in inputs.latency}):
        for (system, search, engine), sizes in engine_latencies(inputs, seed).items():
            where = {"system": system, "data": data.get(system, ""), "seed": seed, "search": search}
            where["test_set"] = inputs.latency_provenance.get("test_set", "")
            other = "" if best[system, search] == engine else f", {engine}"
            time = "clock" if columns[system] == "total_seconds" else "processor"
            for size, latency in sizes.items():
                facts = {"time": time, "size": size, "batches": latency.batches, "repeats": latency.repeats}
                facts |= {"engine": engine, "precision": latency.precision}
                values = {
                    "latency_ms": (latency.median * 1000, LATENCY_SIGNATURE),
                    "processor_ms": (latency.processor * 1000, PROCESSOR_SIGNATURE),
                    "sentences_per_second": (latency.throughput, THROUGHPUT_SIGNATURE),
                }
                rows += [
                    {**where, "metric": f"{name}@{size}{other}", "value": value, "signature": signature.format(**facts)}
                    for name, (value, signature) in values.items()
                ]
    return rows


def _training_rows(inputs: Inputs) -> list[dict[str, Any]]:
    data = inputs.training_data
    rows = []
    for run in inputs.runs_in_order(inputs.checkpoints):
        checkpoint = inputs.checkpoints[run]
        trained_on = data.get(run.system, "") if checkpoint.data is None else checkpoint.data
        where = {"system": run.system, "data": trained_on, "seed": run.seed}
        for metric, cost in checkpoint.costs().items():
            rows.append({**where, "metric": metric, "value": cost, "signature": MODEL_DESCRIPTION})
        alone = Inputs(inputs.config, logs={run: inputs.logs.get(run, [])})
        for shares in logged_means(alone, "train", SHARES).values():
            for metric, share in shares.items():
                rows.append({**where, "metric": metric, "value": share.mean, "signature": f"share of {SHARES[metric]}"})
        for mixed in mixed_systems(alone):
            for spreads, signature in ((mixed.shares, KEPT_SIGNATURE), (mixed.losses, LOSS_SIGNATURE)):
                for metric, value in spreads.items():
                    rows.append({**where, "metric": metric, "value": value.mean, "signature": signature})
    return rows


def _modality_rows(inputs: Inputs) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for row in inputs.rows_in_order(inputs.multimodality):
        where = {"system": row["system"], "data": row["data"], "seed": row["seed"]}
        value = row["nats"] / row["tokens"] if row["tokens"] else ""
        rows.append({**where, "metric": "NCM", "value": value, "signature": NCM_SIGNATURE.format(**row)})
    return rows


def _length_rows(inputs: Inputs) -> list[dict[str, Any]]:
    data = inputs.training_data
    rows: list[dict[str, Any]] = []
    for row in inputs.rows_in_order(inputs.lengths):
        words = f"{row['shortest']}-{row['longest'] or ''}"
        where = {column: row[column] for column in ("system", "seed", "search", "test_set", "value", "signature")}
        rows.append({**where, "data": data.get(row["system"], ""), "metric": f"{row['metric']}@{words} words"})
    return rows


def _exposure_rows(inputs: Inputs) -> list[dict[str, Any]]:
    data = inputs.training_data
    rows: list[dict[str, Any]] = []
    for row in inputs.rows_in_order(inputs.exposure):
        given = f"{row['share']:g} of {row['prefix']}" if row["share"] else row["prefix"]
        where = {column: row[column] for column in ("system", "seed", "test_set", "value", "signature")}
        metric = f"{row['metric']}, {given} completed by {row['completed_by']}"
        rows.append({**where, "data": data.get(row["system"], ""), "metric": metric})
    return rows
