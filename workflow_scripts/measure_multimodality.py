"""NCM: the multi-modality of a corpus, measured by a non-autoregressive model on held-out pairs of it."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import get_args

from retort.config import Data
from retort.data.batches import EncodedCorpus
from retort.data.parquet import write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import MULTIMODALITY
from retort.errors import RetortError
from retort.evaluation.multimodality import multimodality
from retort.models.checkpoint import load_checkpoint, weights_digest
from retort.training.device import prepare_device
from retort.workflow.arguments import seed, threads
from retort.workflow.scripting import run_script


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--checkpoint", type=Path, required=True, help="directory of a non-autoregressive model")
    arguments.add_argument("--held-out", type=Path, required=True, help="encoded table of pairs it was not trained on")
    arguments.add_argument("--system", required=True, help="name of the system")
    arguments.add_argument("--seed", type=seed, required=True, help="seed of its training")
    arguments.add_argument("--data", choices=get_args(Data), required=True, help="whose pairs these are")
    arguments.add_argument("--threads", type=threads, default=1)
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    checkpoint = load_checkpoint(args.checkpoint, prepare_device(args.threads))
    model, objective = checkpoint.model, checkpoint.objective
    if objective.left_to_right or objective.pretrains:
        what = "an autoregressive model" if objective.left_to_right else "a pre-trained model"
        raise RetortError(f"{args.checkpoint}: {what}; NCM needs a non-autoregressive one")
    corpus = EncodedCorpus.read(args.held_out, model.config.max_length, paired=True)
    corpus.check_vocabulary(args.held_out, checkpoint.vocabulary)
    measured = multimodality(model, objective, corpus)
    row = {"system": args.system, "seed": args.seed, "data": args.data, **vars(measured)}
    facts = provenance(checkpoint=weights_digest(args.checkpoint), held_out=file_digest(args.held_out))
    write_table(args.output, MULTIMODALITY, data=MULTIMODALITY.of_rows([row]), provenance=facts)
    if measured.tokens:
        logging.info(
            "NCM %.4f nats per token, %d pairs, %d infeasible", measured.ncm, measured.sentences, measured.infeasible
        )
    else:
        logging.warning("no NCM: none of the %d pairs fits into the model's slots", measured.infeasible)


if __name__ == "__main__":
    run_script(parser(), main)
