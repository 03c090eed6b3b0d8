"""Time all systems on one test set, interleaved on this machine."""

from __future__ import annotations

import argparse
import logging
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch
from pydantic import BaseModel

from retort.config import Latency, Search
from retort.data.parquet import read_table, write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import CORPUS, LATENCY
from retort.evaluation.latency import Timed, measure
from retort.evaluation.runs import test_set_of
from retort.models.checkpoint import load_checkpoint, load_teacher
from retort.training.device import PRECISIONS, describe_device, prepare_device
from retort.workflow.scripting import run_script, section

if TYPE_CHECKING:
    from retort.models.autoregressive import AutoregressiveModel


class TimedSystem(BaseModel):
    """An element of --systems."""

    system: str
    seed: int
    checkpoint: Path
    search_name: str
    search: Search
    teacher: Path | None = None


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--systems", type=section(list[TimedSystem]), required=True, help="JSON list")
    arguments.add_argument("--latency", type=section(Latency), required=True)
    arguments.add_argument("--tests", type=Path, required=True, help="corpus table test.<name>.parquet")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


@dataclass(frozen=True)
class Loaded:
    """The systems ready to time, and the checkpoints and teachers behind them, each loaded once."""

    systems: list[Timed]
    checkpoints: list[Path]
    teachers: list[str]


def load_systems(entries: list[TimedSystem], device: torch.device, dtype: torch.dtype) -> Loaded:
    """All of them in this precision, and with a teacher where the search needs one."""
    loaded: dict[Path, Any] = {}
    teachers: dict[tuple[str, str], AutoregressiveModel] = {}
    systems = []
    for entry in entries:
        if entry.checkpoint not in loaded:
            loaded[entry.checkpoint] = load_checkpoint(entry.checkpoint, device, dtype)
        model, vocabulary, _ = loaded[entry.checkpoint]
        key = str(entry.teacher), vocabulary.digest
        if entry.search.needs_teacher and key not in teachers:
            teachers[key] = load_teacher(entry.teacher, entry.checkpoint, vocabulary, device, dtype)
        systems.append(
            Timed(
                system=entry.system,
                seed=entry.seed,
                search_name=entry.search_name,
                search=entry.search,
                model=model,
                vocabulary=vocabulary,
                teacher=teachers.get(key),
            )
        )
    return Loaded(systems, list(loaded), [path for path, _ in teachers])


def main(args: argparse.Namespace) -> None:
    threads = args.latency.threads or args.threads
    device, settings = prepare_device(threads), args.latency
    loaded = load_systems(args.systems, device, PRECISIONS[settings.precision])
    texts = read_table(args.tests, CORPUS, ["source"]).column("source").to_pylist()
    rows = [
        (*t.timed.key, t.batch_size, t.batch, t.sentences, t.model_seconds, t.total_seconds)
        for t in measure(loaded.systems, texts, settings)
    ]
    columns = zip(*rows, strict=True)
    data = pa.table({c.name: pa.array(v, c.type) for c, v in zip(LATENCY.columns, columns, strict=True)})
    facts = provenance(
        test_set=test_set_of(args.tests),
        latency=settings.model_dump(mode="json"),
        checkpoints={str(path): file_digest(path / "model.safetensors") for path in loaded.checkpoints},
        teachers={path: file_digest(Path(path) / "model.safetensors") for path in loaded.teachers},
        device=describe_device(device)
        | {"machine": platform.processor() or platform.machine(), "cpus": os.cpu_count()},
    )
    write_table(args.output, LATENCY, data, facts)
    logging.info("%d batches of %d systems timed", len(rows), len(loaded.systems))


if __name__ == "__main__":
    run_script(parser(), main)
