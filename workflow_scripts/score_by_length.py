"""Score the translations of every system, seed and search by the length of the references."""

from __future__ import annotations

import argparse
from pathlib import Path

from retort.config import Evaluation
from retort.data.parquet import write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import LENGTHS
from retort.evaluation.lengths import scores_by_length
from retort.evaluation.quality import read_pairs, read_tests, with_teachers_named
from retort.evaluation.runs import runs_of
from retort.workflow.scripting import run_script, section


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--translations", type=Path, nargs="+", required=True, help="translations tables")
    result.add_argument("--tests", type=Path, nargs="+", required=True, help="test sets, test.<name>.parquet")
    result.add_argument("--evaluation", type=section(Evaluation), required=True, help="evaluation section, JSON")
    result.add_argument("--output", type=Path, required=True)
    return result


def main(args: argparse.Namespace) -> None:
    tests, rows = read_tests(args.tests), []
    evaluation = args.evaluation
    longest, metrics, tokenizer = evaluation.length_buckets, evaluation.metrics, evaluation.tokenizer
    runs = runs_of(args.translations)
    for path, run in runs.items():
        for pairs in read_pairs(path, tests):
            rows += [vars(run) | row for row in scores_by_length(pairs, longest, metrics=metrics, tokenizer=tokenizer)]
    facts = provenance(
        longest=longest,
        translations={str(run): file_digest(path) for path, run in runs.items()},
        tests={path.name: file_digest(path) for path in args.tests},
    )
    write_table(args.output, LENGTHS, data=LENGTHS.of_rows(with_teachers_named(rows, args.tests)), provenance=facts)


if __name__ == "__main__":
    run_script(parser(), main)
