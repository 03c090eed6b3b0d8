"""Judge an external teacher's outputs of the training text: filter them, and choose one per source."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from retort.config.external import ExternalTeacher
from retort.data.parquet import read_provenance, write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import CORPUS, JUDGEMENT, TRANSLATIONS
from retort.distillation.gathering import Rows
from retort.distillation.judging import Judge
from retort.workflow.scripting import run_script, section


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--teacher", type=section(ExternalTeacher), required=True, help="external_teacher, JSON")
    arguments.add_argument("--shards", type=Path, nargs="+", required=True, help="translations tables")
    arguments.add_argument("--corpus", type=Path, required=True, help="corpus table of the training pairs")
    arguments.add_argument("--output-judged", type=Path, required=True, help="one output per source")
    arguments.add_argument("--output-rejected", type=Path, required=True, help="outputs that train nothing")
    arguments.add_argument("--output-judgement", type=Path, required=True, help="counts by reason")
    return arguments


def main(args: argparse.Namespace) -> None:
    judge, corpus = Judge(args.teacher), Rows([args.corpus], CORPUS)
    facts = provenance(
        teacher=args.teacher.model_dump(mode="json", include={"choose", "filters"}),
        outputs=read_provenance(args.shards[0]),
        corpus=file_digest(args.corpus),
    )
    rejected: list[pa.Table] = [TRANSLATIONS.schema.empty_table()]

    def judged() -> Iterator[pa.Table]:
        for path in args.shards:
            shard = Rows([path], TRANSLATIONS)
            ids = np.unique(shard.column("id"))
            for part in shard.parts(ids):
                first, last = part["id"][0].as_py(), part["id"][-1].as_py()
                texts = corpus.between(first, last, "id", "source", "target").to_pydict()
                sources = dict(zip(texts["id"], texts["source"], strict=True))
                references = dict(zip(texts["id"], texts["target"], strict=True))
                chosen, dropped = judge.judge(part, sources, references)
                rejected.append(dropped)
                yield chosen

    write_table(args.output_judged, TRANSLATIONS, data=judged(), provenance=facts)
    write_table(args.output_rejected, TRANSLATIONS, data=rejected, provenance=facts)
    write_table(args.output_judgement, JUDGEMENT, data=judge.table(), provenance=facts)
    logging.info("%s", dict(judge.counts))


if __name__ == "__main__":
    run_script(parser(), main)
