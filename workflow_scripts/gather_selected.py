"""Gather the chosen candidates by id into an encoded table, for the next autoregressive model to train on."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from retort.data.parquet import read_provenance, read_table, write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import ENCODED, GUARDS, SELECTION
from retort.data.vocabulary import Vocabulary
from retort.distillation.gathering import Gathered, Rows, left_out_warning
from retort.distillation.guards import verdicts
from retort.errors import RetortError
from retort.workflow.scripting import run_script


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--selected", type=Path, nargs="+", required=True, help="selection tables")
    arguments.add_argument("--guards", type=Path, required=True, help="guards table of this iteration")
    arguments.add_argument("--train", type=Path, required=True, help="encoded table of the training pairs")
    arguments.add_argument("--vocabulary", type=Path, required=True, help="directory")
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    for reason in verdicts(read_table(args.guards, GUARDS)).values():
        if reason:
            raise RetortError(f"{reason}. Take the iteration before, or loosen em.guards")
    gathered = Gathered(Rows(args.selected, SELECTION), args.train, Vocabulary.load(args.vocabulary))
    facts = provenance(selection=read_provenance(args.selected[0]), train=file_digest(args.train), **gathered.counts)
    write_table(args.output, ENCODED, data=gathered.pairs(), provenance=facts)
    logging.info("%s", gathered.counts)
    if warning := left_out_warning(args.output, gathered.counts):
        logging.warning("%s", warning)


if __name__ == "__main__":
    run_script(parser(), main)
