"""Gather, of each source's candidates, the one nearest to the reference into an encoded table to train on."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pyarrow as pa

from retort.config.tokenizers import AUTO, Tokenizer
from retort.data.files import temporary_path
from retort.data.ids import check_known
from retort.data.parquet import read_provenance, write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import CORPUS, ENCODED, TRANSLATIONS
from retort.data.vocabulary import Vocabulary
from retort.distillation.gathering import Gathered, Rows, left_out_warning
from retort.distillation.interpolation import nearest_to_references
from retort.distillation.selection import candidate_groups
from retort.evaluation.tokenizers import chosen_tokenizer, load_tokenizer
from retort.workflow.arguments import share
from retort.workflow.scripting import run_script


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--shards", type=Path, nargs="+", required=True, help="translations tables with n-best lists"
    )
    arguments.add_argument("--corpus", type=Path, required=True, help="corpus table of the training pairs")
    arguments.add_argument("--train", type=Path, required=True, help="encoded table of the training pairs")
    arguments.add_argument("--vocabulary", type=Path, required=True, help="directory")
    arguments.add_argument("--tokenizer", choices=get_args(Tokenizer), default=AUTO, help="of BLEU")
    arguments.add_argument(
        "--max-untrained", type=share, default=1.0, help="largest share of empty or cut outputs (default: any)"
    )
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    first, bleu, tokenizer = 0, 0.0, args.tokenizer

    def nearest() -> Iterator[pa.Table]:
        nonlocal first, bleu, tokenizer
        corpus = Rows([args.corpus], CORPUS)
        for shard, frame in ((path, frame) for path in args.shards for frame in candidate_groups(path)):
            part = corpus.between(frame["id"].min(), frame["id"].max(), "id", "target").to_pandas()
            references = part.set_index("id")["target"]
            check_known(
                frame["id"].to_numpy(),
                references.index.to_numpy(),
                where=args.corpus,
                of=shard,
                advice="decode the candidates again",
            )
            tokenizer = chosen_tokenizer(tokenizer, [references])
            load_tokenizer(tokenizer)
            chosen = nearest_to_references(frame, references, tokenizer)
            first += int((chosen["rank"] == 0).sum())
            bleu += float(chosen["bleu"].sum())
            yield TRANSLATIONS.of_columns(chosen)

    args.output.parent.mkdir(parents=True, exist_ok=True)
    path = temporary_path(args.output.with_suffix(".nearest"))
    try:
        rows = write_table(path, TRANSLATIONS, nearest())
        gathered = Gathered(
            Rows([path], TRANSLATIONS),
            args.train,
            vocabulary=Vocabulary.load(args.vocabulary),
            names=args.shards,
            max_untrained=args.max_untrained,
        )
        counts = gathered.counts | {"first": first, "sentence_bleu": bleu / rows}
        facts = provenance(
            decoding=read_provenance(args.shards[0]), train=file_digest(args.train), tokenizer=tokenizer, **counts
        )
        write_table(args.output, ENCODED, data=gathered.pairs(), provenance=facts)
    finally:
        path.unlink(missing_ok=True)
    logging.info("%s", counts)
    if warning := left_out_warning(args.output, counts):
        logging.warning("%s", warning)


if __name__ == "__main__":
    run_script(parser(), main)
