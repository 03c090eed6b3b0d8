"""Gather the shards of the teacher's labels into one table, and say how much of its distributions they hold."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from retort.data.parquet import iterate_table, write_table
from retort.data.provenance import provenance
from retort.data.tables import LABELS
from retort.distillation.label_shards import check_shards
from retort.workflow.scripting import run_script


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--shards", type=Path, nargs="+", required=True, help="labels tables, in their order")
    arguments.add_argument("--train", type=Path, required=True, help="encoded table that was labelled")
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    facts = check_shards(args.shards, args.train)
    parts = (part for path in args.shards for part in iterate_table(path, LABELS))
    write_table(args.output, LABELS, data=parts, provenance=provenance(**facts))
    size = args.output.stat().st_size / facts["positions"]
    logging.info("%s; %.1f bytes on disk per target token", facts, size)


if __name__ == "__main__":
    run_script(parser(), main)
