"""Exposure bias of a student that decodes left to right: the student and its teacher complete given prefixes."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import get_args

from retort.config import Exposure, Metric
from retort.config.tokenizers import AUTO, Tokenizer
from retort.data.parquet import write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import EXPOSURE
from retort.errors import RetortError
from retort.evaluation.exposure import exposure
from retort.evaluation.quality import read_tests, with_teachers_named
from retort.models.checkpoint import load_checkpoint, load_teacher, weights_digest
from retort.training.device import describe_device, prepare_device
from retort.workflow.arguments import count, seed, threads
from retort.workflow.scripting import run_script, section


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--student", type=Path, required=True, help="directory of its checkpoint")
    arguments.add_argument("--teacher", type=Path, required=True, help="directory of an autoregressive checkpoint")
    arguments.add_argument("--system", required=True, help="name of the student")
    arguments.add_argument("--seed", type=seed, required=True, help="seed of its training")
    arguments.add_argument("--exposure", type=section(Exposure), required=True, help="evaluation.exposure, JSON")
    arguments.add_argument("--metrics", choices=get_args(Metric), nargs="+", required=True)
    arguments.add_argument("--tokenizer", choices=get_args(Tokenizer), default=AUTO, help="of the metrics")
    arguments.add_argument("--tests", type=Path, nargs="+", required=True, help="test sets, test.<name>.parquet")
    arguments.add_argument("--batch-tokens", type=count, default=4096)
    arguments.add_argument("--threads", type=threads, default=1)
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    device, options = prepare_device(args.threads), args.exposure
    student = load_checkpoint(args.student, device)
    if options.search.kind not in student.objective.searches():
        raise RetortError(
            f"{args.student}: a {student.model.family} model cannot complete prefixes by {options.search.kind}"
        )
    teacher = load_teacher(args.teacher, args.student, vocabulary=student.vocabulary, device=device)
    rows = []
    for test_set, corpus in read_tests(args.tests).items():
        names = {"system": args.system, "seed": args.seed, "test_set": test_set}
        measured = exposure(
            student=student.model,
            teacher=teacher,
            vocabulary=student.vocabulary,
            corpus=corpus,
            options=options,
            batch_tokens=args.batch_tokens,
            metrics=args.metrics,
            tokenizer=args.tokenizer,
        )
        for row in measured:
            rows.append(names | row)
            logging.info("%s", {key: value for key, value in rows[-1].items() if key != "signature"})
    facts = provenance(
        exposure=options.model_dump(mode="json", exclude={"systems"}),
        student=weights_digest(args.student),
        teacher=weights_digest(args.teacher),
        tests={path.name: file_digest(path) for path in args.tests},
        device=describe_device(device),
    )
    write_table(args.output, EXPOSURE, data=EXPOSURE.of_rows(with_teachers_named(rows, args.tests)), provenance=facts)


if __name__ == "__main__":
    run_script(parser(), main)
