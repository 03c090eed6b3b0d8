"""Gather the shards of the distilled text by id into one table, and into an encoded table to train on."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from retort.distillation.gathering import gather, split_held_out
from retort.provenance import file_digest, provenance
from retort.scripting import run_script
from retort.tables import ENCODED, TRANSLATIONS, read_provenance, read_table, write_table
from retort.vocabulary import Vocabulary


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--shards", type=Path, nargs="+", required=True, help="translations tables")
    arguments.add_argument("--train", type=Path, required=True, help="encoded table of the training pairs")
    arguments.add_argument("--vocabulary", type=Path, required=True, help="directory")
    arguments.add_argument("--held-out", type=int, default=0, help="pairs that are kept from training (default 0)")
    arguments.add_argument("--output-translations", type=Path, required=True)
    arguments.add_argument("--output-encoded", type=Path, required=True)
    arguments.add_argument("--output-held-out", type=Path, help="encoded table of the pairs kept from training")
    return arguments


def main(args: argparse.Namespace) -> None:
    distilled = pa.concat_tables([read_table(path, TRANSLATIONS) for path in args.shards])
    distilled = distilled.filter(pc.equal(distilled.column("rank"), 0)).sort_by("id")
    encoded, counts = gather(distilled, args.train, Vocabulary.load(args.vocabulary), args.shards)
    facts = provenance(decoding=read_provenance(args.shards[0]), train=file_digest(args.train), **counts)
    if args.held_out:
        encoded, held_out = split_held_out(encoded, args.train, args.held_out)
        write_table(args.output_held_out, ENCODED, held_out, facts)
    write_table(args.output_translations, TRANSLATIONS, distilled, facts)
    write_table(args.output_encoded, ENCODED, encoded, facts)
    logging.info("%s", counts)


if __name__ == "__main__":
    run_script(parser(), main)
