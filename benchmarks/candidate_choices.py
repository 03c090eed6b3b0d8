"""What each way to choose candidates would take from the same ones, with nothing trained.

    python benchmarks/candidate_choices.py --run results/tatoeba-de-en-em --seed 1

Of the EM loop's candidates for iteration 2: those of the first teacher, scored by it and by the first parallel model.
Prints, for each choice, BLEU against the references, tokens a sentence (eos included), and the log-probability a token
under both models. "as long" has the token bonus that makes what is chosen as long as the first of the beam.
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
from retort.distillation.likelihood import log_likelihoods
from retort.distillation.selection import candidate_groups, candidate_score, lengths, within_floor
from retort.models.checkpoint import load_checkpoint
from retort.training.device import prepare_device

CHOICES = {
    "parallel": Em(),
    "parallel, normalised": Em(normalise=True),
    "parallel, floor 0.2": Em(likelihood_floor=0.2),
    "parallel, floor 0.1": Em(likelihood_floor=0.1),
    "parallel, floor 0.05": Em(likelihood_floor=0.05),
    "posterior": Em(choose_by="posterior"),
    "posterior, weight 0.5": Em(choose_by="posterior", posterior_weight=0.5),
    "posterior, weight 2": Em(choose_by="posterior", posterior_weight=2),
    "difference": Em(choose_by="difference"),
    "autoregressive": Em(choose_by="autoregressive"),
}
BISECTIONS = 12
"""Halvings of the interval of token bonuses, which starts with 8 nats."""


def scored(run: Path, seed: int, teacher: Path, most: int | None) -> pd.DataFrame:
    """Every distinct candidate of ``most`` drawn sources, with its log-probabilities under both models, in nats."""
    device = prepare_device(1)
    train = read_table(run / "encoded/train.parquet", ENCODED, ["id", "source"]).sort_by("id")
    ids, sources = train.column("id").to_numpy(), Ragged.from_arrow(train.column("source"))
    shards = sorted((run / f"em/iteration2/seed{seed}/candidates").glob("*.parquet"))
    frame = pd.concat([part for path in shards for part in candidate_groups(path)], ignore_index=True)
    drawn = np.random.default_rng(0).permutation(np.unique(frame["id"]))[:most]
    frame = frame[frame["id"].isin(drawn)].reset_index(drop=True)
    rows, targets = np.searchsorted(ids, frame["id"].to_numpy()), Ragged.from_lists(frame["tokens"].tolist())
    for column, path in (("parallel", run / f"systems/em1/seed{seed}"), ("autoregressive", teacher)):
        scorer = load_checkpoint(path, device)
        frame[column] = log_likelihoods(scorer.model, scorer.objective, source=sources, target=targets, source_row=rows)
    return frame.assign(first=frame["autoregressive"], length=lengths(frame))


def choose(frame: pd.DataFrame, em: Em | None) -> pd.DataFrame:
    """The row of each source that ``em`` chooses; None: the first of the beam."""
    score = -frame["rank"] if em is None else candidate_score(frame, em)
    allowed = frame.assign(score=score)
    if em is not None and em.likelihood_floor is not None:
        allowed = allowed[within_floor(frame, em.likelihood_floor)]
    return allowed.loc[allowed.groupby("id")["score"].idxmax()]


def as_long(frame: pd.DataFrame, em: Em, length: float) -> Em:
    """``em`` with the token bonus that makes its choices ``length`` tokens long on average."""
    least, most = 0.0, 8.0
    for _ in range(BISECTIONS):
        bonus = (least + most) / 2
        longer = choose(frame, em.model_copy(update={"token_bonus": bonus}))["length"].mean() > length
        least, most = (least, bonus) if longer else (bonus, most)
    return em.model_copy(update={"token_bonus": round((least + most) / 2, 2)})


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--run", type=Path, required=True, help="results/<name>")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--teacher", type=Path, help="directory of the first teacher, if it was given")
    arguments.add_argument("--sources", type=int, help="only so many sources, drawn")
    args = arguments.parse_args()
    frame = scored(args.run, args.seed, args.teacher or args.run / f"systems/teacher/seed{args.seed}", args.sources)
    references = read_table(args.run / "corpus/train.parquet", CORPUS, ["id", "target"]).to_pandas()
    by_id = references.set_index("id")["target"]
    print(f"{'choice':32}{'BLEU':>8}{'tokens':>8}{'teacher':>9}{'parallel':>9}")
    length = choose(frame, None)["length"].mean()
    choices: dict[str, Em | None] = {"first of the beam": None}
    for name, em in CHOICES.items():
        choices[name] = em
        if em.choose_by == "posterior":
            longer = as_long(frame, em, length)
            choices[f"{name}, as long ({longer.token_bonus:g})"] = longer
    for name, choice in choices.items():
        chosen = choose(frame, choice)
        bleu = sacrebleu.corpus_bleu(chosen["text"].tolist(), [by_id.loc[chosen["id"]].tolist()]).score
        tokens = chosen["length"].sum()
        per_token = [chosen[column].sum() / tokens for column in ("autoregressive", "parallel")]
        print(f"{name:32}{bleu:8.1f}{chosen['length'].mean():8.2f}{per_token[0]:9.3f}{per_token[1]:9.3f}", flush=True)


if __name__ == "__main__":
    main()
