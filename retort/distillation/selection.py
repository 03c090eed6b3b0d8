"""The E-step: which candidate of each source trains the next autoregressive model (Sun and Yang 2020).

Candidates are those of a beam search; equal texts count once, the first one. Ties go to the better rank.
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
    """The candidates in parts that hold all those of a source, without the empty and truncated ones.

    A source that has no others keeps its best one.
    """
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
    """Distinct candidates that are neither empty nor truncated, by id and rank; where all are flawed, the first one."""
    frame = frame.sort_values(["id", "rank"], kind="stable")
    flawed = frame["truncated"] | frame["empty"]
    hopeless = flawed.groupby(frame["id"]).transform("all") & ~frame["id"].duplicated()
    return frame[~flawed | hopeless].drop_duplicates(["id", "text"]).reset_index(drop=True)


def candidate_score(frame: pd.DataFrame, em: Em) -> np.ndarray:
    """The score to choose by, in nats, from columns ``parallel`` and ``autoregressive`` with log p(y | x), as far as
    ``em.choose_by`` needs them."""
    score = {
        "parallel": lambda: frame["parallel"],
        "difference": lambda: frame["parallel"] - frame["autoregressive"],
        "autoregressive": lambda: frame["autoregressive"],
    }[em.choose_by]()
    return (score / lengths(frame) if em.normalise else score).to_numpy(np.float64)


def lengths(frame: pd.DataFrame) -> pd.Series:
    """Tokens of each candidate, eos included."""
    return frame["tokens"].map(len) + 1


def within_floor(frame: pd.DataFrame, floor: float) -> pd.Series:
    """Whether a candidate's log p a token under the first teacher (column ``first``) is at most ``floor`` nats below
    that of its source's best one."""
    per_token = frame["first"] / lengths(frame)
    return per_token >= per_token.groupby(frame["id"]).transform("max") - floor


def select(frame: pd.DataFrame, em: Em) -> pa.Table:
    """The SELECTION row of each source in ``frame``, which has the columns that ``em`` needs."""
    frame = frame.assign(score=candidate_score(frame, em))
    first = frame.groupby("id", sort=False)["score"].first()
    count = frame.groupby("id", sort=False).size()
    allowed = frame if em.likelihood_floor is None else frame[within_floor(frame, em.likelihood_floor)]
    # a model that finds every candidate impossible has no say
    best = allowed["score"].fillna(-np.inf).groupby(allowed["id"], sort=False).idxmax()
    chosen = allowed.loc[best]
    columns = {
        "candidates": count.loc[chosen["id"]].to_numpy(),
        "first_score": first.loc[chosen["id"]].to_numpy(),
    }
    chosen = chosen.assign(**columns)
    return pa.table({c.name: pa.array(chosen[c.name], c.type) for c in SELECTION.columns})
