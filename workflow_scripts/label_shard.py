"""Store the teacher's most probable tokens at each target position of one shard of a training table."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from retort.config import Distillation
from retort.data.batches import EncodedCorpus, Ragged
from retort.data.parquet import iterate_shard, write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import ENCODED, LABELS
from retort.data.vocabulary import Vocabulary
from retort.distillation.label_shards import labelled_pairs
from retort.distillation.labelling import label
from retort.models.checkpoint import load_teacher, weights_digest
from retort.training.device import PRECISIONS, describe_device, prepare_device
from retort.workflow.arguments import count, threads
from retort.workflow.scripting import run_script, section

CHUNK_ROWS = 4096
"""Pairs labelled at a time."""


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--distillation", type=section(Distillation), required=True, help="JSON; of it batch_tokens and precision"
    )
    arguments.add_argument("--teacher", type=Path, required=True, help="directory of the autoregressive checkpoint")
    arguments.add_argument("--train", type=Path, required=True, help="encoded table")
    arguments.add_argument("--vocabulary", type=Path, required=True, help="directory")
    arguments.add_argument("--top-k", type=count, required=True, help="tokens stored per position")
    arguments.add_argument("--shard", type=int, required=True, help="number of this shard, from 0")
    arguments.add_argument("--shards", type=count, required=True)
    arguments.add_argument("--threads", type=threads, default=1)
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    device, settings = prepare_device(args.threads), args.distillation
    vocabulary = Vocabulary.load(args.vocabulary)
    teacher = load_teacher(
        args.teacher, args.train, vocabulary=vocabulary, device=device, dtype=PRECISIONS[settings.precision]
    )

    def parts() -> Iterator[pa.Table]:
        for number, whole in enumerate(
            iterate_shard(args.train, ENCODED, shard=args.shard, shards=args.shards, rows=CHUNK_ROWS)
        ):
            part = labelled_pairs(whole, teacher.config.max_length)
            if not part.num_rows:
                continue
            source, target = (Ragged.from_arrow(part.column(side)) for side in ("source", "target"))
            corpus = EncodedCorpus(part.column("id").to_numpy(), source, target)
            yield label(teacher, corpus, top_k=args.top_k, batch_tokens=settings.batch_tokens)
            logging.info("part %d: %d pairs, %d too long", number, part.num_rows, whole.num_rows - part.num_rows)

    facts = provenance(
        train=file_digest(args.train),
        vocabulary=vocabulary.digest,
        teacher=weights_digest(args.teacher),
        top_k=args.top_k,
        precision=settings.precision,
        max_length=teacher.config.max_length,
        device=describe_device(device),
    )
    write_table(args.output, LABELS, data=parts(), provenance=facts)


if __name__ == "__main__":
    run_script(parser(), main)
