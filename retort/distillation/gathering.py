"""Decoded shards as training text: joined to their sources by id, flawed outputs left out and counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retort.errors import RetortError
from retort.tables import ENCODED, read_table
from retort.vocabulary import Vocabulary


def gather(
    decoded: pa.Table, train: Path | str, vocabulary: Vocabulary, names: Sequence[Path | str]
) -> tuple[pa.Table, dict[str, Any]]:
    """An ENCODED table of the training sources with the ``decoded`` targets, and how many were left out.

    ``decoded`` has the columns id, tokens, truncated and empty, and every id of ``train`` once; ``names`` are its
    files. Outputs that are empty or cut at the length limit are left out. Raises RetortError if nothing is left, if ids
    are missing, unknown or repeated, and if tokens are not the vocabulary's.
    """
    decoded = decoded.sort_by("id")
    pairs = read_table(train, ENCODED).sort_by("id")
    check_ids(decoded.column("id").to_numpy(), pairs.column("id").to_numpy(), train, names)
    if int(pc.max(pc.list_flatten(decoded.column("tokens"))).as_py() or 0) >= vocabulary.target_size:
        raise RetortError(
            f"{names[0]}: holds token ids beyond the vocabulary's {vocabulary.target_size}; it was decoded with "
            f"another vocabulary: set vocabulary.path to that one"
        )
    kept = decoded.filter(pc.invert(pc.or_(decoded.column("truncated"), decoded.column("empty"))))
    if not kept.num_rows:
        raise RetortError(
            f"{names[0]}: all {decoded.num_rows} outputs are empty or cut at the length limit: the teacher "
            f"has not learned to translate; look at its validation scores, and train it longer"
        )
    source = pairs.take(pa.array(np.searchsorted(pairs.column("id").to_numpy(), kept.column("id").to_numpy())))
    counts = {
        "pairs": pairs.num_rows,
        "truncated": int(pc.sum(decoded.column("truncated")).as_py() or 0),
        "empty": int(pc.sum(decoded.column("empty")).as_py() or 0),
        "kept": kept.num_rows,
    }
    return pa.table({"id": kept["id"], "source": source["source"], "target": kept["tokens"]}), counts


def split_held_out(encoded: pa.Table, train: Path | str, count: int) -> tuple[pa.Table, pa.Table]:
    """The pairs to train on, and those held out: the same ``count`` ids of ``train``, drawn once for all, as far as
    they are in ``encoded``. Raises RetortError when fewer than half would be left to train on."""
    ids = np.sort(read_table(train, ENCODED, ["id"]).column("id").to_numpy())
    if 2 * count > len(ids):
        raise RetortError(f"{train}: {count} of {len(ids)} pairs cannot be held out; lower em.held_out")
    chosen = np.random.default_rng(0).choice(ids, count, replace=False)
    held_out = pc.is_in(encoded["id"], pa.array(chosen))
    return encoded.filter(pc.invert(held_out)), encoded.filter(held_out)


def check_ids(found: np.ndarray, expected: np.ndarray, train: Path | str, names: Sequence[Path | str]) -> None:
    """The decoded rows must be the training pairs, each once."""
    where = ", ".join(str(path) for path in names)
    values, counts = np.unique(found, return_counts=True)
    if (counts > 1).any():
        raise RetortError(f"{where}: id {values[counts > 1][0]} occurs {counts.max()} times; expected each id once")
    missing, extra = np.setdiff1d(expected, values), np.setdiff1d(values, expected)
    if len(missing) or len(extra):
        raise RetortError(
            f"{where}: {len(found)} rows for the {len(expected)} pairs of {train}; {len(missing)} id(s) missing "
            f"{missing[:5].tolist()}, {len(extra)} unknown {extra[:5].tolist()}; decode this corpus again"
        )
