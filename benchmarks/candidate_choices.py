"""What each way to choose candidates would take from the same ones, with nothing trained.

    python benchmarks/candidate_choices.py --run results/tatoeba-de-en-em --seed 1

Of the EM loop's finished iteration 2: the candidates of the first teacher, scored by it and by the first parallel
model. Prints, for each choice, BLEU against the references, tokens a sentence (eos included), and the log-probability a
token under both models.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import sacrebleu

from retort.config import Em
from retort.data.batches import Ragged
from retort.data.parquet import read_table
from retort.data.tables import CORPUS, ENCODED
from retort.distillation.likelihood import BATCH_TOKENS, log_likelihoods
from retort.distillation.selection import candidate_groups, candidate_score, lengths, within_floor
from retort.models.checkpoint import load_checkpoint, objective_of
from retort.training.device import prepare_device

CHOICES = {
    "parallel": Em(),
    "parallel, normalised": Em(normalise=True),
    "parallel, floor 0.2": Em(likelihood_floor=0.2),
    "parallel, floor 0.1": Em(likelihood_floor=0.1),
    "parallel, floor 0.05": Em(likelihood_floor=0.05),
    "difference": Em(choose_by="difference"),
    "autoregressive": Em(choose_by="autoregressive"),
}


def scored(run: Path, seed: int) -> pd.DataFrame:
    """Every distinct candidate with its log-probabilities under both models, in nats."""
    device = prepare_device(1)
    train = read_table(run / "encoded/train.parquet", ENCODED, ["id", "source"]).sort_by("id")
    ids, sources = train.column("id").to_numpy(), Ragged.from_arrow(train.column("source"))
    shards = sorted((run / f"em/iteration2/seed{seed}/candidates").glob("*.parquet"))
    frame = pd.concat([part for path in shards for part in candidate_groups(path)], ignore_index=True)
    rows, targets = np.searchsorted(ids, frame["id"].to_numpy()), Ragged.from_lists(frame["tokens"].tolist())
    for column, system in (("parallel", "em1"), ("autoregressive", "teacher")):
        model, _, description = load_checkpoint(run / f"systems/{system}/seed{seed}", device)
        scores = log_likelihoods(
            model, objective_of(description), source=sources, target=targets, batch_tokens=BATCH_TOKENS, source_row=rows
        )
        frame[column] = scores
    return frame.assign(first=frame["autoregressive"], length=lengths(frame))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--run", type=Path, required=True, help="results/<name>")
    arguments.add_argument("--seed", type=int, default=1)
    args = arguments.parse_args()
    frame = scored(args.run, args.seed)
    references = read_table(args.run / "corpus/train.parquet", CORPUS, ["id", "target"]).to_pandas()
    by_id = references.set_index("id")["target"]
    print(f"{'choice':24}{'BLEU':>8}{'tokens':>8}{'teacher':>9}{'parallel':>9}")
    for name, em in {"first of the beam": None, **CHOICES}.items():
        score = -frame["rank"] if em is None else candidate_score(frame, em)
        allowed = frame.assign(score=score)
        if em is not None and em.likelihood_floor is not None:
            allowed = allowed[within_floor(frame, em.likelihood_floor)]
        chosen = allowed.loc[allowed.groupby("id")["score"].idxmax()]
        bleu = sacrebleu.corpus_bleu(chosen["text"].tolist(), [by_id.loc[chosen["id"]].tolist()]).score
        tokens = chosen["length"].sum()
        per_token = [chosen[column].sum() / tokens for column in ("autoregressive", "parallel")]
        print(f"{name:24}{bleu:8.1f}{chosen['length'].mean():8.2f}{per_token[0]:9.3f}{per_token[1]:9.3f}", flush=True)


if __name__ == "__main__":
    main()
