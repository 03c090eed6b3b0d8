"""Score each output of one system, seed and search with a learned metric, which a program of its own computes."""

from __future__ import annotations

import argparse
from pathlib import Path

from retort.config.evaluation import LearnedMetric
from retort.data.parquet import write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import SEGMENT_SCORES
from retort.evaluation.learned import segment_scores
from retort.evaluation.quality import read_pairs, read_tests
from retort.evaluation.runs import run_of_translations
from retort.workflow.scripting import run_script, section


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--translations", type=Path, required=True, help="translations table")
    result.add_argument("--tests", type=Path, nargs="+", required=True, help="test sets, test.<name>.parquet")
    result.add_argument("--metric", required=True, help="its name in the configuration")
    result.add_argument("--learned", type=section(LearnedMetric), required=True, help="its section, JSON")
    result.add_argument("--output", type=Path, required=True, help="table of segment scores")
    return result


def main(args: argparse.Namespace) -> None:
    run = run_of_translations(args.translations)
    rows = []
    for pairs in read_pairs(args.translations, read_tests(args.tests)):
        scores, signature = segment_scores(args.metric, args.learned.command, pairs)
        rows += [
            {
                **vars(run),
                "test_set": pairs.test_set,
                "id": identity,
                "metric": args.metric,
                "value": score,
                "signature": signature,
            }
            for identity, score in zip(pairs.ids.tolist(), scores, strict=True)
        ]
    facts = provenance(
        learned=args.learned.model_dump(mode="json"),
        translations=file_digest(args.translations),
        tests={path.name: file_digest(path) for path in args.tests},
    )
    data = SEGMENT_SCORES.of_rows(rows)
    write_table(args.output, SEGMENT_SCORES, data=data, provenance=facts)


if __name__ == "__main__":
    run_script(parser(), main)
