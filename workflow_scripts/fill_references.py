"""Make an external teacher's outputs the references of validation and test sets that have none."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from retort.config.external import EXTERNAL, ExternalTeacher
from retort.corpus.preparation import text_of
from retort.data.files import write_json
from retort.data.parquet import read_provenance, read_table, write_table
from retort.data.provenance import file_digest, provenance
from retort.data.references import corpus_table
from retort.data.tables import CLEANING, CORPUS, TRANSLATIONS
from retort.distillation.judging import Judge
from retort.errors import RetortError
from retort.filenames import CLEANING_TABLE, CORPUS_DESCRIPTION, split_of
from retort.workflow.scripting import run_script, section

REJECTED = "rejected"
"""Why a source of such a set is dropped: a filter rejects every output."""


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--teacher", type=section(ExternalTeacher), required=True, help="external_teacher, JSON")
    arguments.add_argument("--outputs", type=Path, required=True, help="its outputs, a translations table")
    arguments.add_argument("--sources", type=Path, required=True, help="directory of prepare_corpus")
    arguments.add_argument("--output", type=Path, required=True, help="directory of the same tables with references")
    return arguments


def main(args: argparse.Namespace) -> None:
    outputs = read_table(args.outputs, TRANSLATIONS)
    facts = json.loads((args.sources / CORPUS_DESCRIPTION).read_text(encoding="utf-8"))
    cleaning = read_table(args.sources / CLEANING_TABLE, CLEANING)
    args.output.mkdir(parents=True, exist_ok=True)
    for path in sorted(args.sources.glob("*.parquet")):
        split = split_of(path)
        own = outputs.filter(pc.equal(outputs["test_set"], split))
        if own.num_rows:
            table = filled(read_table(path, CORPUS), own, teacher=args.teacher, path=path)
            given = provenance(**read_provenance(path), references=EXTERNAL, outputs=file_digest(args.outputs))
            write_table(args.output / path.name, CORPUS, data=table, provenance=given)
            cleaning = counted(cleaning, split, table.num_rows)
            digest = hashlib.sha256(text_of(table).encode()).hexdigest()
            facts["splits"][split] |= {"pairs": table.num_rows, "sha256": digest, "references": EXTERNAL}
        elif path.name not in (args.outputs.name, CLEANING_TABLE):
            shutil.copyfile(path, args.output / path.name)
    given = read_provenance(args.sources / CLEANING_TABLE)
    write_table(args.output / CLEANING_TABLE, CLEANING, data=cleaning, provenance=given)
    write_json(args.output / CORPUS_DESCRIPTION, facts)


def filled(corpus: pa.Table, outputs: pa.Table, teacher: Any, path: Path) -> pa.Table:
    """The CORPUS table with the chosen outputs as references; without sources whose outputs are all rejected."""
    sources = dict(zip(corpus["id"].to_pylist(), corpus["source"].to_pylist(), strict=True))
    chosen = Judge(teacher).judge(outputs.sort_by([("id", "ascending"), ("rank", "ascending")]), sources, {})[0]
    kept = chosen.filter(pc.is_null(chosen["rejected"]))
    if not kept.num_rows:
        raise RetortError(f"{path}: every output of the external teacher is rejected; look at external_teacher.filters")
    logging.info("%s: %d of %d sources have an output that passes the filters", path, kept.num_rows, corpus.num_rows)
    ids = kept["id"].to_pylist()
    return corpus_table(ids, [sources[i] for i in ids], [[text] for text in kept["text"].to_pylist()])


def counted(cleaning: pa.Table, split: str, kept: int) -> pa.Table:
    """The CLEANING table with what was rejected of a split."""
    rows = cleaning.to_pylist()
    before = next(row for row in rows if (row["split"], row["reason"]) == (split, "kept"))
    rows.append({"split": split, "reason": REJECTED, "pairs": before["pairs"] - kept})
    before["pairs"] = kept
    return CLEANING.of_rows(rows)


if __name__ == "__main__":
    run_script(parser(), main)
