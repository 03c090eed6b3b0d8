"""Gather the shards of the distilled text by id into one table, and into an encoded table to train on."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from retort.corpus.encoding import counted_targets, no_counts, unknown_warning
from retort.data.parquet import read_provenance, write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import ENCODED, ENCODING, TRANSLATIONS
from retort.data.vocabulary import Vocabulary
from retort.distillation.gathering import Gathered, Rows, check_sources, filtered, held_out_ids, left_out_warning
from retort.workflow.arguments import count, share
from retort.workflow.scripting import run_script


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--shards", type=Path, nargs="+", required=True, help="translations tables")
    arguments.add_argument("--train", type=Path, required=True, help="encoded table of the training pairs")
    arguments.add_argument("--vocabulary", type=Path, required=True, help="directory")
    arguments.add_argument("--held-out", type=count, default=0, help="pairs that are kept from training (default 0)")
    arguments.add_argument(
        "--max-untrained", type=share, default=1.0, help="largest share of empty or cut outputs (default: any)"
    )
    arguments.add_argument("--output-translations", type=Path, required=True)
    arguments.add_argument("--output-encoded", type=Path, required=True)
    arguments.add_argument("--output-held-out", type=Path, help="encoded table of the pairs kept from training")
    arguments.add_argument("--output-encoding", type=Path, help="statistics of the targets that train")
    arguments.add_argument("--max-length", type=count, help="for these: longest sequence in tokens, eos included")
    return arguments


def main(args: argparse.Namespace) -> None:
    distilled = Rows(args.shards, TRANSLATIONS, best=True)
    sources = check_sources(args.shards[0], args.train)
    gathered = Gathered(distilled, args.train, Vocabulary.load(args.vocabulary), max_untrained=args.max_untrained)
    counts = gathered.counts
    origin = {"decoding": read_provenance(args.shards[0]), "train": file_digest(args.train), "sources": sources}
    facts = provenance(**origin, **counts)
    pairs = gathered.pairs()
    if args.held_out:
        chosen = held_out_ids(args.train, args.held_out)
        pairs = filtered(pairs, chosen, inside=False)
        write_table(
            args.output_held_out, ENCODED, data=filtered(gathered.pairs(), chosen, inside=True), provenance=facts
        )
    targets, longest = no_counts(), args.max_length - 1 if args.max_length else None
    pairs = counted_targets(pairs, targets, longest)
    write_table(args.output_encoded, ENCODED, data=pairs, provenance=facts)
    if args.output_encoding:
        row = {"split": "distilled", "side": "target", **targets}
        write_table(args.output_encoding, ENCODING, ENCODING.of_rows([row]), provenance=facts)
    write_table(args.output_translations, TRANSLATIONS, data=gathered.rows(), provenance=facts)
    logging.info("%s", counts)
    for warning in (left_out_warning(args.output_encoded, counts), unknown_warning("distilled", targets)):
        if warning:
            logging.warning("%s", warning)


if __name__ == "__main__":
    run_script(parser(), main)
