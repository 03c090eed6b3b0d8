"""Keep some of the references from training, those of the sources that the EM loop holds out."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from retort.data.parquet import iterate_table, write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import ENCODED
from retort.distillation.gathering import filtered, held_out_ids
from retort.workflow.arguments import count
from retort.workflow.scripting import run_script


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--train", type=Path, required=True, help="encoded table of the training pairs")
    arguments.add_argument("--held-out", type=count, required=True, help="pairs that are kept from training")
    arguments.add_argument("--output", type=Path, required=True)
    arguments.add_argument("--output-held-out", type=Path, required=True, help="those pairs")
    return arguments


def main(args: argparse.Namespace) -> None:
    chosen = held_out_ids(args.train, args.held_out)
    facts = provenance(train=file_digest(args.train), held_out=args.held_out)
    for output, inside in ((args.output_held_out, True), (args.output, False)):
        pairs = filtered(iterate_table(args.train, ENCODED), chosen, inside)
        write_table(output, ENCODED, data=pairs, provenance=facts)
    logging.info("%d pairs are held out", args.held_out)


if __name__ == "__main__":
    run_script(parser(), main)
