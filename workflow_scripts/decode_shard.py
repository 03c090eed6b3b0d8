"""Translate one shard of the training sources with an autoregressive model: its best hypothesis, or several.

An interrupted shard goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import logging
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from retort.config import Distillation
from retort.data.files import mark_finished, write_json
from retort.data.parquet import iterate_shard, read_table, write_table
from retort.data.provenance import file_digest, provenance, value_digest
from retort.data.runs import Run
from retort.data.tables import CORPUS, TRANSLATIONS
from retort.errors import RetortError
from retort.models.checkpoint import described, load_checkpoint, read_description, weights_digest
from retort.models.families import family_module
from retort.search.base import Hypothesis
from retort.search.decoding import decode_texts, translate_texts, translations_table
from retort.training.device import PRECISIONS, describe_device, prepare_device
from retort.workflow.arguments import count, threads
from retort.workflow.code import code_digest
from retort.workflow.imports import EXACT_SEARCH, decoding_modules
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
    arguments.add_argument("--seed", type=int, required=True, help="seed of its training")
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
    parts = args.state / value_digest(facts | {"shard": args.shard, "shards": args.shards})[:24]
    decoder = None
    done = []
    for number, chunk in enumerate(
        iterate_shard(args.corpus, CORPUS, shard=args.shard, shards=args.shards, rows=CHUNK_ROWS)
    ):
        path = parts / f"part{number:06d}.parquet"
        done.append(path)
        if is_complete(path):
            continue
        decoder = decoder or Decoder(args, device, parts / ENGINE)
        results = decoder.translate(chunk.column("source").to_pylist())
        ids = chunk.column("id").to_numpy()
        table = translations_table(results, decoder.vocabulary, run=run, ids=ids, test_set="train", best=args.best)
        write_table(path, TRANSLATIONS, table)
        logging.info("part %d: %d sources", number, chunk.num_rows)
    if decoder:
        decoder.log_share()
    engine = read_engine(parts / ENGINE) or {"engine": None}
    facts = provenance(**facts, decoder=engine, device=describe_device(device))
    tables = (read_table(path, TRANSLATIONS) for path in done)
    write_table(args.output, TRANSLATIONS, data=tables, provenance=facts)
    mark_finished(parts, args.output)


class Decoder:
    """The model, and the engine that decodes with it, which is the same for all shards and parts."""

    def __init__(self, args: argparse.Namespace, device: torch.device, decision: Path) -> None:
        """``decision``: file of the engine's facts, so that an interrupted shard keeps its engine."""
        self.settings: Distillation = args.distillation
        dtype = PRECISIONS[self.settings.precision]
        self.model, self.vocabulary, _ = load_checkpoint(args.checkpoint, device, dtype)
        self.exact: Any = None
        facts = read_engine(decision)
        reason = None
        if self.settings.engine != "torch":
            # by name: the module depends on the Transformer, and not every teacher is one
            engines = import_module(EXACT_SEARCH)
            reason = engines.unsupported(self.model, self.settings.search, dtype, device)
        if self.settings.engine == "ctranslate2" and reason:
            raise RetortError(
                f"{args.checkpoint}: CTranslate2 cannot decode as torch does: {reason}; set engine to auto"
            )
        if self.settings.engine == "auto" and args.best > 1:
            reason = reason or "lists of several hypotheses are not always equal"
        if self.settings.engine == "torch" or reason or (facts and facts["engine"] == "torch"):
            facts = facts or {"engine": "torch", "reason": reason}
        else:
            self.exact = engines.ExactSearch(
                self.model,
                self.vocabulary,
                self.settings.search,
                batch_tokens=self.settings.batch_tokens,
                best=args.best,
                threads=args.threads,
            )
            facts = facts or self._compared(args)
            if facts["engine"] == "torch":
                self.exact = None
        write_json(decision, facts)
        logging.info("decoding: %s", facts)

    def translate(self, texts: list[str]) -> list[list[Hypothesis]]:
        """n-best lists of the texts."""
        exact = self.exact
        if exact is None:
            return self._by_torch(texts)
        return decode_texts(
            self.vocabulary, texts, config=self.model.config, decode_rows=lambda source, _: exact.decode(source)
        )

    def _by_torch(self, texts: list[str]) -> list[list[Hypothesis]]:
        settings = self.settings
        return translate_texts(
            self.model, self.vocabulary, texts=texts, search=settings.search, batch_tokens=settings.batch_tokens
        )

    def log_share(self) -> None:
        """Log how many sources CTranslate2 left to torch."""
        if self.exact:
            logging.info("%d sources were left to torch", self.exact.left_to_torch)

    def _compared(self, args: argparse.Namespace) -> dict[str, Any]:
        """Facts about the engine that is to be used, after both have decoded the corpus's first sources.

        Every shard compares the same ones, so all come to the same decision.
        """
        texts = (
            next(iterate_shard(args.corpus, CORPUS, shard=0, shards=1, rows=CHECKED_SOURCES))
            .column("source")
            .to_pylist()
        )
        given, expected = self.translate(texts), self._by_torch(texts)
        different = import_module(EXACT_SEARCH).differing(expected, given, args.best)
        engine = "torch" if different and self.settings.engine == "auto" else "ctranslate2"
        if different:
            logging.warning(
                "%d of the first %d training sources are decoded otherwise by CTranslate2 than by torch, the first one "
                "is %r; this shard is decoded by %s",
                len(different),
                len(texts),
                texts[different[0]],
                engine,
            )
        return {
            "engine": engine,
            "ctranslate2": version("ctranslate2"),
            "checked_sources": len(texts),
            "different_sources": len(different),
        }


def read_engine(path: Path) -> dict[str, Any] | None:
    """Facts about the engine that an earlier job of this shard decided on."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


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
