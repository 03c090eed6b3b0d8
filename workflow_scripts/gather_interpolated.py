"""Gather, of each source's candidates, the one nearest to the reference into an encoded table to train on."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import pandas as pd
import pyarrow as pa

from retort.distillation.gathering import gather
from retort.distillation.interpolation import nearest_to_references
from retort.distillation.selection import candidate_groups
from retort.errors import RetortError
from retort.provenance import file_digest, provenance
from retort.scripting import run_script
from retort.tables import CORPUS, ENCODED, TRANSLATIONS, read_provenance, read_table, write_table
from retort.vocabulary import Vocabulary


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--shards", type=Path, nargs="+", required=True, help="translations tables with n-best lists"
    )
    arguments.add_argument("--corpus", type=Path, required=True, help="corpus table of the training pairs")
    arguments.add_argument("--train", type=Path, required=True, help="encoded table of the training pairs")
    arguments.add_argument("--vocabulary", type=Path, required=True, help="directory")
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    corpus = read_table(args.corpus, CORPUS, ["id", "target"]).to_pandas()
    references = corpus.set_index("id")["target"]
    groups = [frame for path in args.shards for frame in candidate_groups(path)]
    for frame in groups:
        if not frame["id"].isin(references.index).all():
            raise RetortError(f"{args.shards[0]}: holds ids that {args.corpus} lacks; decode the candidates again")
    chosen = pd.concat([nearest_to_references(frame, references) for frame in groups])
    columns = [column for column in TRANSLATIONS.columns if column.name in ("id", "tokens", "truncated", "empty")]
    table = pa.table({c.name: pa.array(chosen[c.name], c.type) for c in columns})
    encoded, counts = gather(table, args.train, Vocabulary.load(args.vocabulary), args.shards)
    counts |= {"first": int((chosen["rank"] == 0).sum()), "sentence_bleu": float(chosen["bleu"].mean())}
    facts = provenance(decoding=read_provenance(args.shards[0]), train=file_digest(args.train), **counts)
    write_table(args.output, ENCODED, encoded, facts)
    logging.info("%s", counts)


if __name__ == "__main__":
    run_script(parser(), main)
