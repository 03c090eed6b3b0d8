"""Score the translations of one system, seed and search: quality metrics and diagnostics, one row per test set
and metric."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from retort.config import EXTERNAL, Corpus, Data, Evaluation
from retort.data.parquet import write_table
from retort.data.provenance import file_digest, provenance
from retort.data.runs import Run
from retort.data.tables import SCORES
from retort.errors import RetortError
from retort.evaluation.diagnostics import diagnostics, right_translations
from retort.evaluation.learned import SegmentScores
from retort.evaluation.metrics import Score
from retort.evaluation.quality import Pairs, quality, read_pairs, read_tests, with_teachers_named
from retort.evaluation.runs import run_of_translations
from retort.workflow.scripting import run_script, section


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--translations", type=Path, required=True, help="translations table")
    result.add_argument("--tests", type=Path, nargs="+", required=True, help="test sets, test.<name>.parquet")
    result.add_argument(
        "--data", choices=(*get_args(Data), EXTERNAL), required=True, help="what the system was trained on"
    )
    result.add_argument("--evaluation", type=section(Evaluation), required=True, help="evaluation section, JSON")
    result.add_argument("--learned", type=Path, nargs="+", default=[], help="its tables of segment scores")
    result.add_argument("--language", type=section(Corpus), help="corpus section that knows right translations, JSON")
    result.add_argument("--output", type=Path, required=True, help="scores table")
    return result


def main(args: argparse.Namespace) -> None:
    run = run_of_translations(args.translations)
    names = {**vars(run), "data": args.data}
    rows = []
    parts = read_pairs(args.translations, read_tests(args.tests))
    learned = _learned_scores(args.learned, run, {pairs.test_set: pairs for pairs in parts})
    for pairs in parts:
        scores = quality(pairs, args.evaluation.metrics, args.evaluation.tokenizer)
        scores += learned.get(pairs.test_set, [])
        scores += diagnostics(pairs, args.evaluation.metrics[0], args.evaluation.tokenizer)
        if args.language:
            scores.append(right_translations(pairs, args.language))
        rows += [{**names, "test_set": pairs.test_set, **vars(score)} for score in scores]
    facts = provenance(
        evaluation=args.evaluation.model_dump(mode="json"),
        translations=file_digest(args.translations),
        tests={path.name: file_digest(path) for path in args.tests},
        learned=[file_digest(path) for path in args.learned],
    )
    write_table(args.output, SCORES, data=SCORES.of_rows(with_teachers_named(rows, args.tests)), provenance=facts)


def _learned_scores(paths: Sequence[Path], run: Run, parts: Mapping[str, Pairs]) -> dict[str, list[Score]]:
    """Scores in tables of segment scores, by test set; raises RetortError for those of another run."""
    scores: dict[str, list[Score]] = {}
    for table in map(SegmentScores.read, paths):
        if table.run != run:
            raise RetortError(f"{table.path}: scores of {table.run}; expected those of {run}")
        for (test_set, metric), measured in table.measures(parts).items():
            scores.setdefault(test_set, []).append(Score(metric, measured.value, measured.signature))
    return scores


if __name__ == "__main__":
    run_script(parser(), main)
