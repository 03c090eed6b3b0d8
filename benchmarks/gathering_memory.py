"""Peak memory and time of putting decoded shards together.

    python benchmarks/gathering_memory.py --pairs 250000 1000000
    python benchmarks/gathering_memory.py --pairs 1000000 --shuffled

Random pairs as in training_memory.py, whose targets stand in for the teacher's translations and for the choice among
candidates, are written as 16 shards: in the order of ids, or (shuffled) out of it. Then gather_distilled, with a
thousand pairs held out, and gather_selected run as they do in the workflow. Memory and seconds are measured as in
preprocessing_memory.py. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from preprocessing_memory import run
from training_memory import random_pairs

from retort.config import GeneratedCorpus, Vocabulary
from retort.corpus.language.generated import generate
from retort.data.parquet import Table, iterate_table, write_table
from retort.data.tables import CORPUS, ENCODED, GUARDS, SELECTION, TRANSLATIONS
from retort.data.vocabulary_training import train_vocabulary
from retort.distillation.guards import guards_table

PIECES, SHARDS, HELD_OUT = 240, 16, 1000


def decoded(train: Path, pairs: int, shard: int, table: Table, shuffled: bool) -> Iterator[pa.Table]:
    """Parts of a shard: a range of the pairs, or (shuffled) every SHARDS-th of them, each part's last one first."""
    for part in iterate_table(train, ENCODED):
        ids = part["id"].to_numpy()
        own = ids % SHARDS == shard if shuffled else ids * SHARDS // pairs == shard
        part = part.filter(pa.array(own))
        if shuffled:
            part = part.take(pa.array(np.arange(len(part))[::-1]))
        rows, zeros = len(part), pa.array(np.zeros(len(part), np.int32))
        values = {
            "id": part["id"],
            "text": pc.binary_join(part["target"].cast(pa.list_(pa.string())), " "),
            "tokens": part["target"],
            "test_set": pa.array(["train"] * rows, pa.string()),
            "truncated": zeros.cast(pa.bool_()),
            "empty": zeros.cast(pa.bool_()),
        }
        yield pa.table({c.name: values[c.name] if c.name in values else zeros.cast(c.type) for c in table.columns})


def measure(pairs: int, shuffled: bool, folder: Path) -> Iterator[dict[str, float | int | str]]:
    """Peak memory and time of the two stages."""
    texts = generate(GeneratedCorpus(kind="generated", train_pairs=2000))["train"]
    rows = [{"id": number, "source": source, "target": target} for number, (source, target) in enumerate(texts)]
    write_table(folder / "corpus.parquet", CORPUS, CORPUS.of_rows(rows))
    train_vocabulary(folder / "corpus.parquet", Vocabulary(size=PIECES), seed=1, output=folder / "vocabulary")
    write_table(folder / "guards.parquet", GUARDS, guards_table([], 2, 1))
    write_table(folder / "train.parquet", ENCODED, random_pairs(pairs, PIECES))
    common = ("--train", folder / "train.parquet", "--vocabulary", folder / "vocabulary")
    paths = {}
    for table in (TRANSLATIONS, SELECTION):
        paths[table.name] = [folder / f"{table.name}{shard}.parquet" for shard in range(SHARDS)]
        for shard, path in enumerate(paths[table.name]):
            write_table(
                path, table, decoded(folder / "train.parquet", pairs, shard=shard, table=table, shuffled=shuffled)
            )
    out = [folder / f"out{number}.parquet" for number in range(4)]
    distilled = ("--output-translations", out[0], "--output-encoded", out[1], "--output-held-out", out[2])
    chosen = ("--guards", folder / "guards.parquet", "--output", out[3])
    stages = {
        "gather_distilled": ("--shards", *paths["translations"], *distilled, "--held-out", HELD_OUT, *common),
        "gather_selected": ("--selected", *paths["selection"], *chosen, *common),
    }
    for stage, arguments in stages.items():
        peak, own, seconds = run(f"{stage}.py", *arguments)
        yield {
            "stage": stage,
            "pairs": pairs,
            "peak_mib": round(peak),
            "own_mib": round(own),
            "seconds": round(seconds, 1),
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, nargs="+", default=[250_000, 1_000_000])
    parser.add_argument("--shuffled", action="store_true")
    args = parser.parse_args()
    rows = []
    print(f"{'stage':<18}{'pairs':>12}{'peak MiB':>10}{'own MiB':>9}{'seconds':>9}")
    for pairs in args.pairs:
        with tempfile.TemporaryDirectory() as folder:
            for row in measure(pairs, args.shuffled, Path(folder)):
                print(
                    f"{row['stage']:<18}{row['pairs']:>12,}{row['peak_mib']:>10}{row['own_mib']:>9}{row['seconds']:>9}"
                )
                rows.append(row)
    print(json.dumps({"shuffled": args.shuffled, "rows": rows}))


if __name__ == "__main__":
    main()
