"""Compare every system with the baseline by paired bootstrap resampling, in the metrics that allow it."""

from __future__ import annotations

import argparse
from pathlib import Path

from retort.config import Evaluation
from retort.data.parquet import write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import COMPARISON
from retort.evaluation.comparison import compare
from retort.evaluation.quality import with_teachers_named
from retort.evaluation.runs import runs_of
from retort.workflow.scripting import run_script, section


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--evaluation", type=section(Evaluation), required=True, help="evaluation section, JSON")
    result.add_argument("--tests", type=Path, nargs="+", required=True, help="test sets, test.<name>.parquet")
    result.add_argument("--baseline", type=Path, required=True, help="translations of the baseline")
    result.add_argument("--translations", type=Path, nargs="+", required=True, help="translations of every system")
    result.add_argument(
        "--pair",
        type=Path,
        nargs=2,
        action="append",
        default=[],
        metavar=("SYSTEM", "BASELINE"),
        help="also compare these two translations, such as distilled with raw training data; may be repeated",
    )
    result.add_argument("--learned", type=Path, nargs="+", default=[], help="tables of segment scores of all of them")
    result.add_argument("--output", type=Path, required=True, help="comparison table")
    return result


def main(args: argparse.Namespace) -> None:
    pairs = [tuple(pair) for pair in args.pair]
    table = compare(
        args.tests,
        baseline=args.baseline,
        translations=args.translations,
        pairs=pairs,
        samples=args.evaluation.bootstrap_samples,
        metrics=args.evaluation.metrics,
        tokenizer=args.evaluation.tokenizer,
        learned=args.learned,
    )
    rows = with_teachers_named(table.to_pylist(), args.tests)
    runs = runs_of([args.baseline, *args.translations, *(path for pair in pairs for path in pair)])
    facts = provenance(
        baseline=str(runs[args.baseline]),
        evaluation=args.evaluation.model_dump(mode="json"),
        translations={str(run): file_digest(path) for path, run in runs.items()},
        tests={path.name: file_digest(path) for path in args.tests},
        learned=[file_digest(path) for path in args.learned],
    )
    write_table(args.output, COMPARISON, data=COMPARISON.of_rows(rows), provenance=facts)


if __name__ == "__main__":
    run_script(parser(), main)
