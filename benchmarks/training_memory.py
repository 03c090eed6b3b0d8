"""Memory and time of the training text: reading an encoded table, and making batches of it.

    python benchmarks/training_memory.py --pairs 4500000
    python benchmarks/training_memory.py --pairs 29000 --epochs 3 --batches 0

Writes a table of random pairs, as long as sentences of news are in 32,000 pieces (28 tokens a side, log-normal), reads
it as trainings do, and makes the first batches of each epoch (0: all). Own memory is what is no page of a mapped file
(RssAnon of Linux), sampled every 10 ms, less that of the imports; mapped is the rest, which the system takes back when
it needs it. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from retort.data.batches import EncodedCorpus, epoch_batches
from retort.data.parquet import ROW_GROUP_ROWS, write_table
from retort.data.tables import ENCODED

PIECES, MEAN, SPREAD, LONGEST = 32_000, 28, 0.5, 256


def random_pairs(pairs: int, pieces: int = PIECES) -> Iterator[pa.Table]:
    """Parts of an encoded table."""
    rng = np.random.default_rng(1)
    for first in range(0, pairs, ROW_GROUP_ROWS):
        ids = np.arange(first, min(first + ROW_GROUP_ROWS, pairs))
        scale = rng.lognormal(np.log(MEAN) - SPREAD**2 / 2, SPREAD, len(ids))
        columns = [pa.array(ids)]
        for _ in range(2):
            lengths = np.clip(scale * rng.normal(1, 0.15, len(ids)), 1, LONGEST - 1).astype(np.int32)
            tokens = (pieces ** rng.random(lengths.sum())).astype(np.int32)
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
            columns.append(pa.ListArray.from_arrays(offsets, tokens))
        yield pa.table(columns, ENCODED.names)


def write(path: Path, pairs: int) -> None:
    write_table(path, ENCODED, random_pairs(pairs))


def memory() -> tuple[float, float]:
    """Own and mapped resident memory of this process now, in MiB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own, *mapped = (int(fields[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile", "RssShmem"))
    return own, sum(mapped)


class Peak:
    """Samples memory in a thread, from one look to the next."""

    def __init__(self) -> None:
        self.highest = (0.0, 0.0)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.highest = tuple(map(max, self.highest, memory()))  # type: ignore[assignment]
            time.sleep(0.01)

    def look(self) -> tuple[float, float]:
        found, self.highest = self.highest, memory()
        return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4_500_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batches", type=int, default=2000, help="batches of each epoch that are made; 0: all")
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--directory", type=Path, help="where the table is written, and removed (default: TMPDIR)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.directory) as folder:
        path = Path(folder) / "train.parquet"
        # in another process, whose memory is not measured
        writer = multiprocessing.get_context("spawn").Process(target=write, args=(path, args.pairs))
        writer.start()
        writer.join()
        rows = list(measure(path, args))
        size = path.stat().st_size
    print(f"{args.pairs:,} pairs, {size / 2**20:.0f} MiB on disk")
    print(f"{'stage':<22}{'own MiB':>9}{'peak own':>10}{'mapped MiB':>12}{'seconds':>9}")
    for row in rows:
        print(f"{row['stage']:<22}{row['own']:>9}{row['peak_own']:>10}{row['mapped']:>12}{row['seconds']:>9}")
    print(json.dumps({"pairs": args.pairs, "bytes": size, "rows": rows}))


def measure(path: Path, args: argparse.Namespace) -> Iterator[dict[str, str | float]]:
    """A row for reading, and for each epoch one for its order and one for its batches."""
    start_own, start_mapped = memory()
    peak, clock = Peak(), time.process_time()

    def row(stage: str, count: int = 1) -> dict[str, str | float]:
        nonlocal clock
        time.sleep(0.02)
        own, mapped = memory()
        highest = max(own, peak.look()[0])
        seconds, clock = time.process_time() - clock, time.process_time()
        return {
            "stage": stage,
            "own": round(own - start_own),
            "peak_own": round(highest - start_own),
            "mapped": round(mapped - start_mapped),
            "seconds": round(seconds / count, 5),
        }

    corpus = EncodedCorpus.read(path, LONGEST)
    yield row("read")
    for epoch in range(args.epochs):
        groups = epoch_batches(corpus, args.batch_tokens, seed=1, epoch=epoch)
        yield row(f"order of epoch {epoch}")
        some = groups[: args.batches or None]
        for rows in some:
            corpus.batch(rows)
        yield row("a batch", len(some))


if __name__ == "__main__":
    main()
