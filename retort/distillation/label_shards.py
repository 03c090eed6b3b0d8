"""Checks that shards of the teacher's labels belong to one training table, and measures what they leave out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from retort.data.parquet import iterate_table, read_provenance, read_table
from retort.data.tables import ENCODED, LABELS
from retort.errors import RetortError

COVERAGE = ("mass", "entropy", "kept_entropy")
"""Columns that measure how much of the teacher's distributions is stored."""
MADE_FROM = ("train", "vocabulary", "teacher", "top_k", "precision", "max_length")
"""Facts in the provenance of a shard that all shards of a table share."""


def check_shards(shards: Sequence[Path], train: Path) -> dict[str, Any]:
    """The shards' common facts (MADE_FROM), and means over their positions (entropies in nats).

    ``mass``: probability of the stored tokens. ``entropy``: that of the teacher, the minimum of a loss on whole
    distributions. ``loss_difference``: how much lower the minimum is with these labels. Memory: some 40 bytes per pair,
    and a part of ``train``. Raises RetortError unless the rows are those of the pairs of ``train``, in its order.
    """
    facts = [{k: v for k, v in read_provenance(path).items() if k in MADE_FROM} for path in shards]
    for path, other in zip(shards, facts, strict=True):
        if other != facts[0]:
            raise RetortError(f"{path}: made from {other}, and {shards[0]} from {facts[0]}; make the labels again")
    labels = pa.concat_tables([read_table(path, LABELS, ["id", "positions", *COVERAGE]) for path in shards])
    pairs = pa.concat_tables(_positions(part, facts[0]["max_length"]) for part in iterate_table(train, ENCODED))
    if any(not labels[name].equals(pairs[name]) for name in pairs.column_names):
        raise RetortError(
            f"{', '.join(map(str, shards))}: {labels.num_rows} rows that are not those of the {pairs.num_rows} pairs "
            f"of {train} with a position for each target token and eos; make the labels of this table, and all shards"
        )
    if not labels.num_rows:
        raise RetortError(
            f"{train}: no pair is labelled, as none has a target and sides shorter than {facts[0]['max_length']} "
            f"tokens, the teacher's model.max_length; raise it"
        )
    count = int(pc.sum(labels["positions"]).as_py() or 0)
    sums = [float(pc.sum(labels[name].cast(pa.float64())).as_py() or 0.0) for name in COVERAGE]
    mass, entropy, stored_entropy = (total / count for total in sums)
    means = {"positions": count, "mass": mass, "entropy": entropy, "loss_difference": entropy - stored_entropy}
    return facts[0] | means


def labelled_pairs(pairs: pa.Table, max_length: int) -> pa.Table:
    """The rows of an ENCODED table that are labelled: they have a target, and both sides have at most ``max_length``
    tokens, eos included."""
    source, target = (pc.list_value_length(pairs[side]) for side in ("source", "target"))
    fitting = pc.less(pc.max_element_wise(source, target), max_length)
    return pairs.filter(pc.and_(fitting, pc.greater(target, 0)))


def _positions(part: pa.Table, max_length: int) -> pa.Table:
    """Id and number of positions of each row of ``part`` that is labelled."""
    pairs = labelled_pairs(part, max_length)
    positions = pc.add(pc.list_value_length(pairs["target"]), 1).cast(pa.int32())
    return pa.table({"id": pairs["id"], "positions": positions})
