"""Translate one shard of the training sources with an autoregressive model: its best hypothesis, or several.

An interrupted shard goes on where it stopped.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from retort.config import Distillation, Model
from retort.data.files import mark_finished
from retort.data.parquet import iterate_shard, read_table, write_table
from retort.data.provenance import file_digest, provenance, value_digest
from retort.data.runs import Run
from retort.data.tables import CORPUS, TRANSLATIONS
from retort.errors import RetortError
from retort.models.checkpoint import load_checkpoint, objective_of, read_description
from retort.models.families import family_module
from retort.search.decoding import translate_texts, translations_table
from retort.training.device import PRECISIONS, describe_device, prepare_device
from retort.workflow.code import code_digest
from retort.workflow.scripting import run_script, section

CHUNK_ROWS = 4096
"""Sources decoded between saves."""


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--distillation", type=section(Distillation), required=True)
    arguments.add_argument("--checkpoint", type=Path, required=True, help="directory of the autoregressive checkpoint")
    arguments.add_argument("--system", required=True, help="name of the model in the configuration")
    arguments.add_argument("--seed", type=int, required=True, help="seed of its training")
    arguments.add_argument("--search-name", required=True, help="name of the search in the table")
    arguments.add_argument("--corpus", type=Path, required=True, help="corpus table of the training pairs")
    arguments.add_argument("--shard", type=int, required=True, help="number of this shard, from 0")
    arguments.add_argument("--shards", type=int, required=True)
    arguments.add_argument("--state", type=Path, required=True, help="directory of unfinished shards' parts")
    arguments.add_argument("--best", type=int, default=1, help="hypotheses kept per source (default 1)")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    device, settings = prepare_device(args.threads), args.distillation
    description = read_description(args.checkpoint)
    family = family_module(objective_of(description), Model.model_validate(description["model"]))
    run = Run(args.system, args.seed, args.search_name)
    facts = {
        "run": str(run),
        "distillation": settings.model_dump(mode="json", exclude={"corpus"}),
        "teacher": file_digest(args.checkpoint / "model.safetensors"),
        "corpus": file_digest(args.corpus),
        "best": args.best,
        "code": code_digest([Path(__file__)], extra=[f"retort.search.{settings.search.kind}", family]),
    }
    parts = args.state / value_digest(facts | {"shard": args.shard, "shards": args.shards})[:24]
    loaded = None
    done = []
    for number, chunk in enumerate(iterate_shard(args.corpus, CORPUS, args.shard, args.shards, CHUNK_ROWS)):
        path = parts / f"part{number:06d}.parquet"
        done.append(path)
        if is_complete(path):
            continue
        loaded = loaded or load_checkpoint(args.checkpoint, device, PRECISIONS[settings.precision])
        model, vocabulary, _ = loaded
        results = translate_texts(
            model, vocabulary, chunk.column("source").to_pylist(), settings.search, settings.batch_tokens
        )
        ids = chunk.column("id").to_numpy()
        table = translations_table(results, vocabulary, run=run, ids=ids, test_set="train", best=args.best)
        write_table(path, TRANSLATIONS, table)
        logging.info("part %d: %d sources", number, chunk.num_rows)
    facts = provenance(**facts, device=describe_device(device))
    tables = (read_table(path, TRANSLATIONS) for path in done)
    write_table(args.output, TRANSLATIONS, tables, facts)
    mark_finished(parts, args.output)


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
