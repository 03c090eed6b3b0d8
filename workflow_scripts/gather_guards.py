"""Gather the guards of all seeds of an iteration of the EM loop into one table, and say where the loop ends."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import pyarrow as pa

from retort.data.parquet import read_provenance, read_table, write_table
from retort.data.provenance import provenance
from retort.data.tables import GUARDS
from retort.distillation.guards import verdicts
from retort.workflow.scripting import run_script


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--guards", type=Path, nargs="+", required=True, help="guards tables, one per seed")
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    table = pa.concat_tables([read_table(path, GUARDS) for path in args.guards])
    write_table(
        args.output, GUARDS, data=table, provenance=provenance(guards=[read_provenance(path) for path in args.guards])
    )
    for reason in verdicts(table).values():
        logging.warning(reason or "all bounds are met")


if __name__ == "__main__":
    run_script(parser(), main)
