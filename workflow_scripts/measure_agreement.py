"""Agreement of a parallel model with the references of the training text; selective KD chooses targets by it."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from retort.config import names_where
from retort.data.batches import EncodedCorpus
from retort.data.parquet import write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import AGREEMENT
from retort.distillation.likelihood import BATCH_TOKENS
from retort.errors import RetortError
from retort.models.checkpoint import load_checkpoint, weights_digest
from retort.objectives.base import load_objective
from retort.training.device import prepare_device
from retort.workflow.arguments import threads
from retort.workflow.scripting import run_script


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--checkpoint", type=Path, required=True, help="directory of the evaluator")
    arguments.add_argument("--train", type=Path, required=True, help="encoded table of the training pairs")
    arguments.add_argument("--threads", type=threads, default=1)
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


@torch.inference_mode()
def main(args: argparse.Namespace) -> None:
    checkpoint = load_checkpoint(args.checkpoint, prepare_device(args.threads))
    model, objective = checkpoint.model, checkpoint.objective
    if not objective.measures_agreement:
        able = names_where(lambda o: o.measures_agreement)
        raise RetortError(f"{args.checkpoint}: objective {objective.name} cannot evaluate; {able} can")
    agreement = load_objective(objective.name).agreement
    corpus = EncodedCorpus.read(args.train, model.config.max_length, paired=True)
    corpus.check_vocabulary(args.train, checkpoint.vocabulary)
    accuracy = np.zeros(len(corpus), np.float32)
    for rows in corpus.batches(BATCH_TOKENS):
        accuracy[rows] = agreement(model, corpus.batch(rows).to(model.device), objective).cpu().numpy()
    # as the released code of Liu et al. 2023 compares
    score = accuracy if "alignment" in objective.predicts else np.sqrt(accuracy)
    table = pa.table({"id": corpus.ids, "accuracy": accuracy, "score": score}, schema=AGREEMENT.schema)
    facts = provenance(
        checkpoint=weights_digest(args.checkpoint),
        train=file_digest(args.train),
        accuracy=float(accuracy.mean()),
    )
    write_table(args.output, AGREEMENT, data=table, provenance=facts)
    logging.info("mean accuracy %.4f", accuracy.mean())


if __name__ == "__main__":
    run_script(parser(), main)
