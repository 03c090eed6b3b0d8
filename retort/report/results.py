"""Every number of a run as one long CSV table."""

from __future__ import annotations

import csv
import io
from typing import Any

from retort.report.inputs import Inputs
from retort.report.mixing import mixed_systems
from retort.report.summary import SHARES, latencies, training_shares

COLUMNS = ("system", "data", "seed", "test_set", "search", "metric", "value", "signature")
LATENCY_SIGNATURE = "text to text, median over batches|batch_size:{size}|batches:{batches}"
KEPT_SIGNATURE = "share of samples, mean over the training"
LOSS_SIGNATURE = "of the final weights, on a sample of the training pairs"
NCM_SIGNATURE = "held-out -log p(y|x) / tokens, nats|pairs:{sentences}|infeasible:{infeasible}|tokens:{tokens}"
THROUGHPUT_SIGNATURE = "text to text, sentences / total seconds|batch_size:{size}|batches:{batches}"


def results_csv(inputs: Inputs) -> str:
    """The scores, the latency at every batch size, each training's size and cost, what of its samples counted, NCM,
    scores by length, and exposure bias.

    One row a system, training data, seed, test set, search and metric; what does not apply is empty.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_score_rows(inputs))
    writer.writerows(_latency_rows(inputs))
    writer.writerows(_training_rows(inputs))
    writer.writerows(_modality_rows(inputs))
    writer.writerows(_length_rows(inputs))
    writer.writerows(_exposure_rows(inputs))
    return out.getvalue()


def _score_rows(inputs: Inputs) -> list[dict[str, Any]]:
    rows = sorted(inputs.scores, key=lambda row: (*inputs.order(row["system"], row["search"]), row["seed"]))
    return [{column: row[column] for column in COLUMNS} for row in rows]


def _latency_rows(inputs: Inputs) -> list[dict[str, Any]]:
    data = {row["system"]: row["data"] for row in inputs.scores}
    rows = []
    seeds = sorted({row["seed"] for row in inputs.latency})
    for seed in seeds:
        own = Inputs(inputs.config, latency=[row for row in inputs.latency if row["seed"] == seed])
        for (system, search), sizes in latencies(own).items():
            where = {"system": system, "data": data.get(system, ""), "seed": seed, "search": search}
            where["test_set"] = inputs.latency_provenance.get("test_set", "")
            for size, found in sizes.items():
                facts = {"size": size, "batches": found.batches}
                rows += [
                    {
                        **where,
                        "metric": f"latency_ms@{size}",
                        "value": found.median * 1000,
                        "signature": LATENCY_SIGNATURE.format(**facts),
                    },
                    {
                        **where,
                        "metric": f"sentences_per_second@{size}",
                        "value": found.throughput,
                        "signature": THROUGHPUT_SIGNATURE.format(**facts),
                    },
                ]
    return rows


def _training_rows(inputs: Inputs) -> list[dict[str, Any]]:
    data = {row["system"]: row["data"] for row in inputs.scores}
    rows = []
    for run in sorted(inputs.checkpoints, key=lambda run: (*inputs.order(run.system), run.seed)):
        model = inputs.checkpoints[run]
        where = {"system": run.system, "data": model.get("data", data.get(run.system, "")), "seed": run.seed}
        for metric in ("parameters", "updates", "train_seconds"):
            if model.get(metric) is not None:
                rows.append({**where, "metric": metric, "value": model[metric], "signature": "model.json"})
        own = Inputs(inputs.config, logs={run: inputs.logs.get(run, [])})
        for metric, found in training_shares(own).get(run.system, {}).items():
            rows.append({**where, "metric": metric, "value": found.mean, "signature": f"share of {SHARES[metric]}"})
        for mixed in mixed_systems(own):
            for shares, signature in ((mixed.shares, KEPT_SIGNATURE), (mixed.losses, LOSS_SIGNATURE)):
                rows += [
                    {**where, "metric": metric, "value": found.mean, "signature": signature}
                    for metric, found in shares.items()
                ]
    return rows


def _modality_rows(inputs: Inputs) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for row in sorted(inputs.multimodality, key=lambda row: (*inputs.order(row["system"]), row["seed"])):
        where = {"system": row["system"], "data": row["data"], "seed": row["seed"]}
        value = row["nats"] / row["tokens"] if row["tokens"] else ""
        rows.append({**where, "metric": "NCM", "value": value, "signature": NCM_SIGNATURE.format(**row)})
    return rows


def _length_rows(inputs: Inputs) -> list[dict[str, Any]]:
    data = {row["system"]: row["data"] for row in inputs.scores}
    rows: list[dict[str, Any]] = []
    for row in sorted(inputs.lengths, key=lambda row: (*inputs.order(row["system"], row["search"]), row["seed"])):
        words = f"{row['shortest']}-{row['longest'] or ''}"
        where = {column: row[column] for column in ("system", "seed", "search", "test_set", "value", "signature")}
        rows.append({**where, "data": data.get(row["system"], ""), "metric": f"{row['metric']}@{words} words"})
    return rows


def _exposure_rows(inputs: Inputs) -> list[dict[str, Any]]:
    data = {row["system"]: row["data"] for row in inputs.scores}
    rows: list[dict[str, Any]] = []
    for row in sorted(inputs.exposure, key=lambda row: (*inputs.order(row["system"]), row["seed"])):
        given = f"{row['share']:g} of {row['prefix']}" if row["share"] else row["prefix"]
        where = {column: row[column] for column in ("system", "seed", "test_set", "value", "signature")}
        metric = f"{row['metric']}, {given} completed by {row['completed_by']}"
        rows.append({**where, "data": data.get(row["system"], ""), "metric": metric})
    return rows
