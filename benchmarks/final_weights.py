"""What averaging of checkpoints costs or gains: the weights that finished trainings kept, against single ones.

    python benchmarks/final_weights.py results/default

For each training of the runs: validation scores of the kept weights, of the last and of the best single ones, all on
the same validation sentences. "kept" names the updates that the kept weights are the average of.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

from retort.data.parquet import read_table
from retort.data.tables import TRAINING_LOG


class Scores(NamedTuple):
    """Validation scores of one training."""

    training: str
    updates: list[int]
    """What the kept weights are the average of."""
    kept: float
    last: float
    best: float


def scores_of(directory: Path) -> Scores:
    """Of a directory ``<system>/seed<seed>``, in the metric that chose its checkpoints."""
    model = json.loads((directory / "model.json").read_text())
    metric = model["training"]["select_by"]
    rows = [r for r in read_table(directory / "training.parquet", TRAINING_LOG).to_pylist() if r["metric"] == metric]
    single = {row["update"]: row["value"] for row in rows if row["split"] == "valid"}
    (kept,) = [row["value"] for row in rows if row["split"] == "average"]
    best = min(single.values()) if metric == "loss" else max(single.values())
    name = f"{directory.parent.name}/{directory.name}"
    return Scores(name, model["averaged_updates"], kept=kept, last=single[max(single)], best=best)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("runs", type=Path, nargs="+", help="results/<name>")
    args = arguments.parse_args()
    for run in args.runs:
        found = [scores_of(path.parent) for path in sorted(run.glob("systems/*/seed*/training.parquet"))]
        print(f"{run}\n{'training':32s} {'kept':>6s} {'last':>6s} {'best':>6s}  average of updates")
        for own in found:
            print(f"{own.training:32s} {own.kept:6.2f} {own.last:6.2f} {own.best:6.2f}  {own.updates}")
        means = [own for own in found if len(own.updates) > 1]
        if means:
            gains = [own.last - own.kept for own in means]
            print(
                f"of {len(means)} averages the last weights are better in {sum(gain > 0 for gain in gains)}, "
                f"by {sum(gains) / len(gains):.2f} on average of all"
            )


if __name__ == "__main__":
    main()
