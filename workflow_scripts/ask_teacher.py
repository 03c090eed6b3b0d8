"""Ask an external teacher about the sources of corpus tables, or of one shard of one.

Answers are kept as they come. An interrupted job asks only what is not answered yet.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from retort.config.external import ExternalTeacher
from retort.data.parquet import iterate_shard, write_table
from retort.data.provenance import file_digest, provenance, value_digest
from retort.data.tables import CORPUS, TRANSLATIONS
from retort.filenames import split_of
from retort.teachers.asking import outputs_of, ready_outputs, teacher_facts, translations_part
from retort.teachers.base import Question, open_external, teacher_module
from retort.workflow.arguments import count, threads
from retort.workflow.code import code_digest
from retort.workflow.scripting import run_script, section

PART_ROWS = 65_536
"""Sources of which the outputs are in memory at once."""


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--teacher", type=section(ExternalTeacher), required=True, help="external_teacher, JSON")
    arguments.add_argument("--corpora", type=Path, nargs="+", required=True, help="corpus tables, named by their split")
    arguments.add_argument("--shard", type=int, default=0, help="number of this shard, from 0")
    arguments.add_argument("--shards", type=count, default=1)
    arguments.add_argument("--answers", type=Path, required=True, help="directory that keeps answers")
    arguments.add_argument("--threads", type=threads, default=1)
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    teacher = args.teacher
    facts = {"teacher": teacher_facts(teacher, [split_of(path) for path in args.corpora])}
    code = {} if teacher.is_paid else {"code": code_digest([Path(__file__)], extra=[teacher_module(teacher)])}
    directory = args.answers / value_digest(facts | code)[:24]

    def parts() -> Iterator[pa.Table]:
        for path in args.corpora:
            split = split_of(path)
            job = f"{split}.{args.shard}-of-{args.shards}"
            ready = None if teacher.remembers else open_external(teacher, split, args.threads)
            for part in iterate_shard(path, CORPUS, shard=args.shard, shards=args.shards, rows=PART_ROWS):
                ids = part.column("id").to_pylist()
                questions = [Question(*row) for row in zip(ids, part.column("source").to_pylist(), strict=True)]
                if ready:
                    outputs = ready_outputs(ready, questions)
                else:
                    outputs = outputs_of(
                        teacher, questions, split=split, directory=directory, job=job, threads=args.threads
                    )
                yield translations_part(teacher, ids, outputs=outputs, test_set=split)

    corpora = {path.name: file_digest(path) for path in args.corpora}
    rows = write_table(args.output, TRANSLATIONS, data=parts(), provenance=provenance(**facts, corpora=corpora))
    logging.info("%d outputs", rows)


if __name__ == "__main__":
    run_script(parser(), main)
