"""Peak memory and time of the preprocessing, by the number of training pairs.

    python benchmarks/preprocessing_memory.py --pairs 250000 1000000
    python benchmarks/preprocessing_memory.py --pairs 4500000 --kind generated --size 240 --keep made-up

Text of random words with a Zipf distribution is written as two gzip files (kind text), or the generated language pair
is taken; then prepare_corpus, train_vocabulary and encode_corpus run as they do in the workflow, each in a process of
its own, whose largest resident set the operating system reports (peak); own is the part that is not pages of mapped
files, which the system takes back when it needs them, sampled every 10 ms (Linux). Seconds are those of the processor.
Own memory must grow by a few dozen bytes a pair, not by its text (the vocabulary's sample is held in memory: it is
bounded by sample_sentences, so compare sizes above it). Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
HELD_OUT = 1000
WORDS_A_SENTENCE = (5, 36)
LEXICON = 50_000
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


def write_text(path: Path, sentences: int, seed: int) -> int:
    """Write ``sentences`` lines of random words, a chunk at a time; returns the bytes of the text."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 11, size=LEXICON)
    lexicon = np.array(["".join(rng.choice(list(LETTERS), size=n)) for n in lengths], dtype=object)
    written = 0
    with gzip.open(path, "wb", compresslevel=1) as handle:
        for first in range(0, sentences, 10_000):
            counts = rng.integers(*WORDS_A_SENTENCE, size=min(10_000, sentences - first))
            # The inverse of a Zipf distribution's cumulative function: rank r with probability near 1 / r.
            words = lexicon[(LEXICON ** rng.random(counts.sum())).astype(int) - 1]
            ends = np.cumsum(counts)
            lines = [" ".join(words[end - n : end]) for n, end in zip(counts, ends, strict=True)]
            content = ("\n".join(lines) + "\n").encode()
            handle.write(content)
            written += len(content)
    return written


def memory_mib(process: int) -> tuple[float, float]:
    """Largest resident set of a process so far, and its anonymous resident memory now, in MiB; 0 where the system does
    not tell."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().split("\n")
    except OSError:
        return 0.0, 0.0
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmHWM:", "RssAnon:"))}
    return tuple(int(found.get(name, 0)) / 1024 for name in ("VmHWM", "RssAnon"))  # type: ignore[return-value]


def run(script: str, *arguments: object) -> tuple[float, float, float]:
    """Run a workflow script; returns its peak resident set and the own part of it in MiB, and its processor seconds."""
    command = [sys.executable, str(ROOT / "workflow_scripts" / script), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("RETORT_MIRROR", None)
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, env=environment, stderr=errors)
        most, finished = (0.0, 0.0), 0
        while not finished:
            peak, own = map(max, most, memory_mib(process.pid))
            most = (peak, own)
            finished, status, usage = os.wait4(process.pid, os.WNOHANG)
            time.sleep(0.01)
        if status:
            errors.seek(0)
            raise SystemExit(f"{script} failed:\n{errors.read().decode()}")
    return peak, own, usage.ru_utime + usage.ru_stime


def written_text(folder: Path, pairs: int) -> tuple[dict[str, object], int]:
    """A corpus section of made-up texts in ``folder``, and the bytes of its training text."""
    sides: dict[str, dict[str, list[dict[str, str]]]] = {split: {} for split in ("train", "valid", "test")}
    text_bytes = 0
    for number, split in enumerate(sides):
        for offset, side in enumerate(("source", "target")):
            path = folder / f"{split}.{side}.gz"
            written = write_text(path, pairs if split == "train" else HELD_OUT, seed=2 * number + offset)
            text_bytes += written if split == "train" else 0
            sides[split][side] = [{"location": str(path)}]
    return {
        "kind": "text",
        "train": sides["train"],
        "valid": sides["valid"],
        "tests": {"test": sides["test"]},
    }, text_bytes


def text_bytes_of(table: Path) -> int:
    """Bytes of the text in a corpus table, line ends included."""
    parts = pq.ParquetFile(table).iter_batches(columns=["source", "target"])
    return sum(len(part) + pc.sum(pc.binary_length(column)).as_py() for part in parts for column in part.columns)


def measure(
    kind: str, pairs: int, sample_sentences: int, size: int, folder: Path
) -> Iterator[dict[str, float | int | str]]:
    """Peak memory and time of the three stages on ``pairs`` training pairs, and the tables in ``folder``."""
    corpus: dict[str, object] = {"kind": "generated", "train_pairs": pairs}
    text_bytes = 0
    if kind == "text":
        corpus, text_bytes = written_text(folder, pairs)
    cleaning = {"max_ratio": 10}
    vocabulary = {"size": size, "sample_sentences": sample_sentences}
    train = folder / "corpus" / "train.parquet"
    stages: dict[str, tuple[str | Path, ...]] = {
        "prepare_corpus": ("--corpus", json.dumps(corpus), "--cleaning", json.dumps(cleaning)),
        "train_vocabulary": ("--vocabulary", json.dumps(vocabulary), "--corpus", train),
        "encode_corpus": ("--vocabulary", folder / "vocabulary", "--corpus", train),
    }
    outputs = dict(zip(stages, ("corpus", "vocabulary", "encoded"), strict=True))
    for stage, arguments in stages.items():
        peak, own, seconds = run(f"{stage}.py", *arguments, "--output", folder / outputs[stage])
        text_bytes = text_bytes or text_bytes_of(train)
        yield {
            "stage": stage,
            "pairs": pairs,
            "text_mib": round(text_bytes / 2**20),
            "peak_mib": round(peak),
            "own_mib": round(own),
            "seconds": round(seconds, 1),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[250_000, 1_000_000])
    parser.add_argument("--kind", choices=("text", "generated"), default="text")
    parser.add_argument("--sample-sentences", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=8000)
    parser.add_argument("--keep", type=Path, help="directory that keeps the tables, below the number of pairs")
    args = parser.parse_args()
    rows = []
    print(f"{'stage':<18}{'pairs':>12}{'text MiB':>10}{'peak MiB':>10}{'own MiB':>9}{'seconds':>9}")
    for pairs in args.pairs:
        with tempfile.TemporaryDirectory() as name:
            folder = args.keep / str(pairs) if args.keep else Path(name)
            folder.mkdir(parents=True, exist_ok=True)
            for row in measure(args.kind, pairs, sample_sentences=args.sample_sentences, size=args.size, folder=folder):
                sizes = f"{row['text_mib']:>10}{row['peak_mib']:>10}{row['own_mib']:>9}"
                print(f"{row['stage']:<18}{row['pairs']:>12,}{sizes}{row['seconds']:>9}", flush=True)
                rows.append(row)
    print(json.dumps({"kind": args.kind, "sample_sentences": args.sample_sentences, "size": args.size, "rows": rows}))


if __name__ == "__main__":
    main()
