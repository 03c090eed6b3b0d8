"""Choose the values of a search's options on the validation set: the search with the best ones, and all scores."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import get_args

from retort.config import Grid, Metric, SearchSection
from retort.config.tokenizers import AUTO, Tokenizer
from retort.data.files import write_json
from retort.data.parquet import read_table, write_table
from retort.data.provenance import file_digest, provenance
from retort.data.runs import Run
from retort.data.tables import CORPUS, TUNING
from retort.evaluation.tuning import best, tried, tuning_table
from retort.models.checkpoint import load_checkpoint, weights_digest
from retort.search.decoding import load_helpers, translate_texts
from retort.training.device import describe_device, prepare_device
from retort.workflow.arguments import count, seed, threads
from retort.workflow.scripting import run_script, section


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--checkpoint", type=Path, required=True)
    arguments.add_argument("--searches", type=section(Grid), required=True, help="a search, and values to try, JSON")
    arguments.add_argument("--system", required=True, help="name of the system")
    arguments.add_argument("--seed", type=seed, required=True, help="seed of its training")
    arguments.add_argument("--search-name", required=True, help="name of the search")
    arguments.add_argument("--teacher", type=Path, help="checkpoint, if the search has a teacher score its candidates")
    arguments.add_argument("--valid", type=Path, required=True, help="corpus table of the validation set")
    arguments.add_argument("--metric", choices=get_args(Metric), required=True)
    arguments.add_argument("--tokenizer", choices=get_args(Tokenizer), default=AUTO, help="of the metric")
    arguments.add_argument("--batch-tokens", type=count, default=4096)
    arguments.add_argument("--threads", type=threads, default=1)
    arguments.add_argument("--output", type=Path, required=True, help="the chosen search, JSON")
    arguments.add_argument("--output-table", type=Path, required=True, help="everything tried")
    return arguments


def main(args: argparse.Namespace) -> None:
    device = prepare_device(args.threads)
    checkpoint = load_checkpoint(args.checkpoint, device)
    model, vocabulary = checkpoint.model, checkpoint.vocabulary
    searches = args.searches.forms()
    teacher, helper_facts = load_helpers(checkpoint, searches, args.teacher)
    corpus = read_table(args.valid, CORPUS)
    sources = corpus["source"].to_pylist()

    def decode(search: SearchSection) -> list[str]:
        asked = teacher if search.needs_teacher else None
        results = translate_texts(
            model, vocabulary, texts=sources, search=search, batch_tokens=args.batch_tokens, teacher=asked
        )
        return vocabulary.decode_target([hypotheses[0].tokens for hypotheses in results])

    results = tried(searches, decode, corpus=corpus, metric=args.metric, tokenizer=args.tokenizer)
    chosen = best(results)
    logging.info("%s %.2f with %s", args.metric, chosen.score.value, chosen.search)
    facts = provenance(
        checkpoint=weights_digest(args.checkpoint),
        **helper_facts,
        valid=file_digest(args.valid),
        device=describe_device(device),
    )
    run = Run(args.system, args.seed, args.search_name)
    write_table(args.output_table, TUNING, data=tuning_table(results, run), provenance=facts)
    write_json(args.output, chosen.search.model_dump(mode="json"))


if __name__ == "__main__":
    run_script(parser(), main)
