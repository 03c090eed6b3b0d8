"""The E-step for one shard: of each source's candidates, the one the parallel model finds likeliest."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from retort.config import Em
from retort.config.em import CHOOSING
from retort.data.batches import EncodedCorpus, Ragged
from retort.data.ids import check_known
from retort.data.parquet import write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import SELECTION
from retort.distillation.likelihood import log_likelihoods
from retort.distillation.selection import candidate_groups, select
from retort.errors import RetortError
from retort.models.checkpoint import load_checkpoint, weights_digest
from retort.training.device import describe_device, prepare_device
from retort.workflow.arguments import threads
from retort.workflow.scripting import run_script, section


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--em", type=section(Em), required=True, help="the em section, JSON")
    arguments.add_argument("--candidates", type=Path, required=True, help="translations table with n-best lists")
    arguments.add_argument("--train", type=Path, required=True, help="encoded table of the training pairs")
    arguments.add_argument("--student", type=Path, required=True, help="checkpoint of the parallel model")
    arguments.add_argument("--teacher", type=Path, required=True, help="checkpoint that decoded the candidates")
    arguments.add_argument("--first-teacher", type=Path, required=True, help="checkpoint trained on the references")
    arguments.add_argument("--threads", type=threads, default=1)
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    device = prepare_device(args.threads)
    models = {name: load_checkpoint(path, device) for name, path in scorers(args).items()}
    vocabularies = {scorer.vocabulary.digest for scorer in models.values()}
    if len(vocabularies) > 1:
        where = ", ".join(str(path) for path in scorers(args).values())
        raise RetortError(f"{where}: trained with different vocabularies; they must share one to score each other")
    train = EncodedCorpus.read(args.train, sys.maxsize)
    order = np.argsort(train.ids)

    def parts() -> Iterator[pa.Table]:
        for frame in candidate_groups(args.candidates):
            ids = frame["id"].to_numpy()
            rows = order[np.searchsorted(train.ids, ids, sorter=order).clip(max=len(order) - 1)]
            check_known(
                ids, train.ids[rows], where=args.train, of=args.candidates, advice="decode the candidates again"
            )
            targets = Ragged.from_lists(frame["tokens"].tolist())
            scores = {
                name: log_likelihoods(
                    scorer.model, scorer.objective, source=train.source, target=targets, source_row=rows
                )
                for name, scorer in models.items()
            }
            yield select(pd.concat([frame, pd.DataFrame(scores)], axis=1), args.em)

    facts = provenance(
        em=args.em.model_dump(mode="json", include=set(CHOOSING)),
        candidates=file_digest(args.candidates),
        scorers={name: weights_digest(path) for name, path in scorers(args).items()},
        device=describe_device(device),
    )
    rows = write_table(args.output, SELECTION, data=parts(), provenance=facts)
    logging.info("%d sources", rows)


def scorers(args: argparse.Namespace) -> dict[str, Path]:
    """The models that the choice needs, by the column their scores go to."""
    models = {}
    if args.em.choose_by != "autoregressive":
        models["parallel"] = args.student
    if args.em.choose_by in ("difference", "autoregressive"):
        models["autoregressive"] = args.teacher
    if args.em.choose_by == "posterior" or args.em.likelihood_floor is not None:
        models["first"] = args.first_teacher
    return models


if __name__ == "__main__":
    run_script(parser(), main)
