"""The E-step: chooses the candidate of each source that trains the next autoregressive model (Sun and Yang 2020).

Candidates come from a beam search. Of equal texts only the first one counts. Ties go to the better rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from retort.config import Em
from retort.data.parquet import iterate_table
from retort.data.tables import SELECTION, TRANSLATIONS


def candidate_groups(path: Path | str, rows: int = 65_536) -> Iterator[pd.DataFrame]:
    """The usable candidates of a TRANSLATIONS table, in parts; all candidates of a source are in the same part."""
    rest: pd.DataFrame | None = None
    for part in iterate_table(path, TRANSLATIONS, rows):
        frame = part.to_pandas()
        frame = frame if rest is None else pd.concat([rest, frame], ignore_index=True)
        last = frame["id"] == frame["id"].iloc[-1]
        rest = frame[last]
        if not last.all():
            yield usable(frame[~last])
    if rest is not None:
        yield usable(rest)


def usable(frame: pd.DataFrame) -> pd.DataFrame:
    """Distinct candidates that are neither empty nor truncated, by id and rank.

    A source whose candidates are all flawed keeps the first one.
    """
    frame = frame.sort_values(["id", "rank"], kind="stable")
    flawed = frame["truncated"] | frame["empty"]
    only_flawed = flawed.groupby(frame["id"]).transform("all") & ~frame["id"].duplicated()
    return frame[~flawed | only_flawed].drop_duplicates(["id", "text"]).reset_index(drop=True)


def candidate_score(frame: pd.DataFrame, em: Em) -> np.ndarray:
    """The score that the choice maximises, in nats.

    It is computed from log p(y | x) in the columns ``parallel``, ``autoregressive`` and ``first``, whichever
    ``em.choose_by`` needs. The posterior is p_parallel x p_first ** weight. -inf where it is not defined.
    """
    score = {
        "parallel": lambda: frame["parallel"],
        "posterior": lambda: frame["parallel"] + em.posterior_weight * frame["first"] + em.token_bonus * lengths(frame),
        "difference": lambda: frame["parallel"] - frame["autoregressive"],
        "autoregressive": lambda: frame["autoregressive"],
    }[em.choose_by]()
    return (score / lengths(frame) if em.normalise else score).fillna(-np.inf).to_numpy(np.float64)


def lengths(frame: pd.DataFrame) -> pd.Series:
    """Tokens of each candidate, eos included."""
    return frame["tokens"].map(len) + 1


def within_floor(frame: pd.DataFrame, floor: float) -> pd.Series:
    """Whether a candidate is nearly as probable as its source's best one, under the first teacher (column ``first``).

    Log p per token may be at most ``floor`` nats below the best one's.
    """
    per_token = frame["first"] / lengths(frame)
    return per_token >= per_token.groupby(frame["id"]).transform("max") - floor


def select(frame: pd.DataFrame, em: Em) -> pa.Table:
    """The SELECTION row of each source in ``frame``, which has the columns that ``candidate_score`` and
    ``within_floor`` read."""
    frame = frame.assign(score=candidate_score(frame, em))
    first = frame.groupby("id", sort=False)["score"].first()
    count = frame.groupby("id", sort=False).size()
    allowed = frame if em.likelihood_floor is None else frame[within_floor(frame, em.likelihood_floor)]
    # where all candidates are impossible under the model, the first one is chosen
    best = allowed["score"].groupby(allowed["id"], sort=False).idxmax()
    chosen = allowed.loc[best]
    columns = {
        "candidates": count.loc[chosen["id"]].to_numpy(),
        "first_score": first.loc[chosen["id"]].to_numpy(),
    }
    chosen = chosen.assign(**columns)
    return SELECTION.of_columns(chosen)
