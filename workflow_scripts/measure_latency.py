"""Time all systems on one test set, interleaved on this machine."""

from __future__ import annotations

import argparse
import logging
import os
import platform
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from retort.config import Latency, Search
from retort.evaluation.latency import Timed, measure
from retort.evaluation.runs import test_set_of
from retort.provenance import file_digest, provenance
from retort.scripting import run_script, section
from retort.tables import CORPUS, LATENCY, read_table, write_table
from retort.training.checkpoint import load_checkpoint
from retort.training.device import PRECISIONS, describe_device, prepare_device


class TimedSystem(BaseModel):
    """An element of --systems."""

    system: str
    seed: int
    checkpoint: Path
    search_name: str
    search: Search


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--systems", type=section(list[TimedSystem]), required=True, help="JSON list")
    arguments.add_argument("--latency", type=section(Latency), required=True)
    arguments.add_argument("--tests", type=Path, required=True, help="corpus table test.<name>.parquet")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    threads = args.latency.threads or args.threads
    device, settings = prepare_device(threads), args.latency
    loaded: dict[Path, Any] = {}
    systems = []
    for entry in args.systems:
        if entry.checkpoint not in loaded:
            loaded[entry.checkpoint] = load_checkpoint(entry.checkpoint, device, PRECISIONS[settings.precision])
        model, vocabulary, _ = loaded[entry.checkpoint]
        systems.append(Timed(entry.system, entry.seed, entry.search_name, entry.search, model, vocabulary))
    texts = read_table(args.tests, CORPUS, ["source"]).column("source").to_pylist()
    rows = [
        (*t.timed.key, t.batch_size, t.batch, t.sentences, t.model_seconds, t.total_seconds)
        for t in measure(systems, texts, settings)
    ]
    columns = zip(*rows, strict=True)
    data = pa.table({c.name: pa.array(v, c.type) for c, v in zip(LATENCY.columns, columns, strict=True)})
    facts = provenance(
        test_set=test_set_of(args.tests),
        latency=settings.model_dump(mode="json"),
        checkpoints={str(path): file_digest(path / "model.safetensors") for path in loaded},
        device=describe_device(device)
        | {"machine": platform.processor() or platform.machine(), "cpus": os.cpu_count()},
    )
    write_table(args.output, LATENCY, data, facts)
    logging.info("%d batches of %d systems timed", len(rows), len(systems))


if __name__ == "__main__":
    run_script(parser(), main)
