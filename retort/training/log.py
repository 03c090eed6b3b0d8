"""The training log: rows for Parquet, TensorBoard events, and a progress bar, or plain lines without a terminal."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from retort.data.durations import duration
from retort.data.parquet import write_table
from retort.data.tables import TRAINING_LOG

logger = logging.getLogger(__name__)


class TrainingLog:
    """Collects (update, split, metric, value, seconds) rows, which are saved with the training state."""

    def __init__(self, events: Path | None, updates: int, rows: list[list[Any]], start: int) -> None:
        """``events``: directory of the TensorBoard events; None: rows are collected, and nothing is shown."""
        self.rows = rows
        self.updates, self.start, self.started = updates, start, time.monotonic()
        self.silent = events is None
        self.bar = tqdm(total=updates, initial=start, unit="update", disable=self.silent or not sys.stderr.isatty())
        if self.silent:
            return
        # TensorBoard would otherwise import TensorFlow where it is installed
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(events), purge_step=start + 1)  # type: ignore[no-untyped-call]

    def add(self, update: int, split: str, metrics: dict[str, float], seconds: float) -> None:
        """Record metrics; validations, and training metrics where there is no bar, are also printed."""
        self.rows += [[update, split, name, float(value), seconds] for name, value in metrics.items()]
        if self.silent:
            return
        for name, value in metrics.items():
            self.writer.add_scalar(f"{split}/{name}", value, update)  # type: ignore[no-untyped-call]
        line = " ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        if self.bar.disable:
            left = time_left(update - self.start, self.updates - update, time.monotonic() - self.started)
            share = 100 * update // self.updates
            logger.info("update %d/%d, %d %%%s, %s: %s", update, self.updates, share, left, split, line)
        elif split == "valid":
            self.bar.write(f"update {update} valid: {line}", file=sys.stderr)

    def advance(self) -> None:
        self.bar.update()

    def close(self) -> None:
        self.bar.close()
        if not self.silent:
            self.writer.close()  # type: ignore[no-untyped-call]


def time_left(done: int, remaining: int, seconds: float) -> str:
    """How long ``remaining`` updates take if ``done`` took ``seconds``, as text; empty where nothing is known."""
    if done < 1 or remaining < 1:
        return ""
    return f", about {duration(seconds / done * remaining)} left"


def write_log(path: Path, rows: list[list[Any]], provenance: dict[str, Any]) -> None:
    """Write the collected rows as a TRAINING_LOG table."""
    data = TRAINING_LOG.of_rows(dict(zip(TRAINING_LOG.names, row, strict=True)) for row in rows)
    write_table(path, TRAINING_LOG, data=data, provenance=provenance)
