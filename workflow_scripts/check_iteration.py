"""Guards of the EM loop: compare an iteration's chosen candidates with the first teacher's translations.

Sources whose first translation is no training text are left out of both.
"""

from __future__ import annotations

import argparse
import logging
import math
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retort.config import Guards
from retort.config.tokenizers import AUTO, Tokenizer
from retort.data.batches import Ragged, evenly_spread
from retort.data.parquet import read_table, write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import CORPUS, ENCODED, GUARDS, SELECTION, TRANSLATIONS
from retort.distillation.gathering import check_decoded, trainable
from retort.distillation.guards import guards_table, impossible_warnings, measure, verdicts
from retort.distillation.likelihood import log_likelihoods
from retort.errors import RetortError
from retort.evaluation.metrics import Score, score
from retort.evaluation.tokenizers import chosen_tokenizer, words
from retort.models.checkpoint import Checkpoint, load_checkpoint, weights_digest
from retort.training.device import prepare_device
from retort.workflow.arguments import seed, threads
from retort.workflow.scripting import run_script, section


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--guards", type=section(Guards), required=True, help="the em.guards section, JSON")
    arguments.add_argument("--iteration", type=int, required=True)
    arguments.add_argument("--seed", type=seed, required=True)
    arguments.add_argument("--selected", type=Path, nargs="+", required=True, help="selection tables")
    arguments.add_argument("--first", type=Path, required=True, help="the first teacher's translations of the sources")
    arguments.add_argument("--first-teacher", type=Path, required=True, help="its checkpoint")
    arguments.add_argument("--corpus", type=Path, required=True, help="corpus table of the training pairs")
    arguments.add_argument("--train", type=Path, required=True, help="the same, encoded")
    arguments.add_argument("--tokenizer", choices=get_args(Tokenizer), default=AUTO, help="of words")
    arguments.add_argument("--threads", type=threads, default=1)
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    selection = pa.concat_tables([read_table(path, SELECTION) for path in args.selected]).sort_by("id")
    gold = read_table(args.corpus, CORPUS).sort_by("id")
    check_decoded(selection["id"].to_numpy(), gold["id"].to_numpy(), train=args.corpus, names=args.selected)
    first = read_table(args.first, TRANSLATIONS)
    first = first.filter(pc.equal(first["rank"], 0)).sort_by("id")
    check_decoded(first["id"].to_numpy(), gold["id"].to_numpy(), train=args.corpus, names=[args.first])
    train = read_table(args.train, ENCODED, ["id", "source"]).sort_by("id")
    usable = trainable(first)
    selection, first, gold, train = (table.filter(usable) for table in (selection, first, gold, train))
    if not gold.num_rows:
        raise RetortError(f"{args.first}: all translations are empty, cut or rejected; none can be compared with")
    sample = pa.array(np.unique(evenly_spread(gold.num_rows, args.guards.sentences)))
    sources = Ragged.from_arrow(train["source"].take(sample))

    # text of the source language alone has empty references
    texts = gold["target"].to_pylist()
    referenced = [row for row, text in enumerate(texts) if text] or list(range(len(texts)))
    references = [[texts[row]] for row in referenced]
    tokenizer = chosen_tokenizer(args.tokenizer, references if any(texts) else [first["text"].to_pylist()])

    scores: list[Score] = []

    def quality(table: pa.Table) -> float:
        hypotheses = table["text"].take(referenced).to_pylist()
        scores.append(score("BLEU", hypotheses, references=references, tokenizer=tokenizer))
        return scores[-1].value

    teacher = load_checkpoint(args.first_teacher, prepare_device(args.threads))
    targets = [Ragged.from_arrow(table["tokens"].take(sample)) for table in (selection, first)]
    rows = measure(
        selection,
        first,
        args.guards,
        quality=quality,
        log_likelihoods=log_likelihoods_per_token(teacher, sources, *targets),
        words=partial(words, tokenizer=tokenizer),
    )
    facts = provenance(
        guards=args.guards.model_dump(mode="json"),
        tokenizer=tokenizer,
        signature=scores[0].signature,
        selected=[file_digest(path) for path in args.selected],
        first_teacher=weights_digest(args.first_teacher),
    )
    table = guards_table(rows, args.iteration, args.seed)
    write_table(args.output, GUARDS, data=table, provenance=facts)
    logging.info("%s", {row["metric"]: row["value"] for row in rows})
    for warning in impossible_warnings(table):
        logging.warning("%s", warning)
    logging.info("%s", verdicts(table)[args.seed] or "all bounds are met")


def log_likelihoods_per_token(
    teacher: Checkpoint, sources: Ragged, chosen: Ragged, first: Ragged
) -> tuple[float, float]:
    """Mean log p per token of both texts under a model.

    It is that of the sentences whose two targets the model can produce; nan if there are none.
    """
    measured = partial(log_likelihoods, teacher.model, teacher.objective, sources)
    nats = np.stack([measured(target=chosen), measured(target=first)])
    tokens = np.stack([chosen.lengths, first.lengths]) + 1
    possible = np.isfinite(nats).all(axis=0)
    if not possible.any():
        return math.nan, math.nan
    value, base = nats[:, possible].sum(axis=1) / tokens[:, possible].sum(axis=1)
    return float(value), float(base)


if __name__ == "__main__":
    run_script(parser(), main)
