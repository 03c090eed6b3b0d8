"""Translate one shard of the training sources with an autoregressive model: its best hypothesis, or several.

An interrupted shard goes on where it stopped.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from retort.config import Distillation
from retort.data.files import mark_finished
from retort.data.parquet import iterate_shard, read_table, write_table
from retort.data.provenance import file_digest, provenance, value_digest
from retort.data.runs import Run
from retort.data.tables import CORPUS, TRANSLATIONS
from retort.distillation.decoding import TeacherDecoder, facts_of
from retort.errors import RetortError
from retort.models.checkpoint import described, load_checkpoint, read_description, weights_digest
from retort.models.families import family_module
from retort.search.decoding import translations_table
from retort.training.device import PRECISIONS, describe_device, prepare_device
from retort.workflow.arguments import count, seed, threads
from retort.workflow.code import code_digest
from retort.workflow.imports import decoding_modules
from retort.workflow.scripting import run_script, section

CHUNK_ROWS = 4096
"""Sources decoded between saves."""
CHECKED_SOURCES = 256
"""First sources of the corpus that both engines decode before CTranslate2 is used."""
ENGINE = "engine.json"
"""File beside the parts of a shard: the engine that decodes them, and how it compared with torch."""


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--distillation", type=section(Distillation), required=True)
    arguments.add_argument("--checkpoint", type=Path, required=True, help="directory of the autoregressive checkpoint")
    arguments.add_argument("--system", required=True, help="name of the model in the configuration")
    arguments.add_argument("--seed", type=seed, required=True, help="seed of its training")
    arguments.add_argument("--search-name", required=True, help="name of the search in the table")
    arguments.add_argument("--corpus", type=Path, required=True, help="corpus table of the training pairs")
    arguments.add_argument("--shard", type=int, required=True, help="number of this shard, from 0")
    arguments.add_argument("--shards", type=count, required=True)
    arguments.add_argument("--state", type=Path, required=True, help="directory of unfinished shards' parts")
    arguments.add_argument("--best", type=count, default=1, help="hypotheses kept per source (default 1)")
    arguments.add_argument("--threads", type=threads, default=1)
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    device, settings = prepare_device(args.threads), args.distillation
    description = read_description(args.checkpoint)
    family = family_module(*described(args.checkpoint, description))
    run = Run(args.system, args.seed, args.search_name)
    facts = {
        "run": str(run),
        "distillation": settings.model_dump(mode="json", exclude={"corpus"}),
        "teacher": weights_digest(args.checkpoint),
        "corpus": file_digest(args.corpus),
        "best": args.best,
        "code": code_digest([Path(__file__)], extra=sorted({family, *decoding_modules(settings)})),
    }
    place = {"shard": args.shard, "shards": args.shards, "device": device.type}
    parts = args.state / value_digest(facts | place)[:24]
    decoder = None
    done = []
    for number, chunk in enumerate(
        iterate_shard(args.corpus, CORPUS, shard=args.shard, shards=args.shards, rows=CHUNK_ROWS)
    ):
        path = parts / f"part{number:06d}.parquet"
        done.append(path)
        if is_complete(path):
            continue
        decoder = decoder or load_decoder(args, device, parts / ENGINE)
        results = decoder.translate(chunk.column("source").to_pylist())
        ids = chunk.column("id").to_numpy()
        table = translations_table(results, decoder.vocabulary, run=run, ids=ids, test_set="train", best=args.best)
        write_table(path, TRANSLATIONS, table)
        logging.info("part %d: %d sources", number, chunk.num_rows)
    if decoder and decoder.exact:
        logging.info("%d sources were left to torch", decoder.exact.left_to_torch)
    engine = facts_of(parts / ENGINE) or {"engine": None}
    facts = provenance(**facts, decoder=engine, device=describe_device(device))
    tables = (read_table(path, TRANSLATIONS) for path in done)
    write_table(args.output, TRANSLATIONS, data=tables, provenance=facts)
    mark_finished(parts, args.output)


def load_decoder(args: argparse.Namespace, device: torch.device, decision: Path) -> TeacherDecoder:
    """The model in its engine; ``decision`` is the file that keeps which one that is."""
    settings: Distillation = args.distillation
    checkpoint = load_checkpoint(args.checkpoint, device, PRECISIONS[settings.precision])
    first = next(iterate_shard(args.corpus, CORPUS, shard=0, shards=1, rows=CHECKED_SOURCES))
    try:
        return TeacherDecoder(
            checkpoint.model,
            checkpoint.vocabulary,
            settings,
            checked=first.column("source").to_pylist(),
            decision=decision,
            best=args.best,
            threads=args.threads,
        )
    except RetortError as error:
        raise RetortError(f"{args.checkpoint}: {error}") from None


def is_complete(part: Path) -> bool:
    """Whether an earlier, interrupted job left this part whole; a damaged one is made again."""
    if not part.exists():
        return False
    try:
        read_table(part, TRANSLATIONS)
    except RetortError as error:
        logging.warning("%s; it is made again", error)
        return False
    return True


if __name__ == "__main__":
    run_script(parser(), main)
