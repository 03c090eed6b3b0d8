"""What the teacher says at each position of a training text, read from a table: its most probable next tokens.

Shape letters: n positions (those of a batch's targets one sentence after the other, eos included, padding not), k
tokens kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from retort.data.parquet import iterate_table, open_table, read_provenance
from retort.data.spool import Spool
from retort.data.tables import LABELS
from retort.errors import RetortError


@dataclass(frozen=True)
class TopK:
    """The k most probable tokens at each position; all others together have the rest."""

    tokens_nk: Tensor
    probabilities_nk: Tensor
    rest_n: Tensor

    def to(self, device: torch.device) -> TopK:
        return TopK(self.tokens_nk.to(device), self.probabilities_nk.to(device), self.rest_n.to(device))


class StoredLabels:
    """A LABELS table: 24 bytes a pair in memory, and 6 k + 2 bytes a target token there or, as it is read, mapped from
    disk."""

    def __init__(self, ids: np.ndarray, offsets: np.ndarray, tokens_nk: np.ndarray, probabilities_nl: np.ndarray):
        """``offsets``: first position of each pair, and the end of the last one; ``probabilities_nl``: l = k + 1, the
        last one the rest."""
        self.order = np.argsort(ids, kind="stable")
        self.ids, self.offsets = ids[self.order], offsets
        self.tokens_nk, self.probabilities_nl = tokens_nk, probabilities_nl

    @classmethod
    def read(cls, path: Path | str, top_k: int) -> StoredLabels:
        """Read a table of ``top_k`` tokens a position; raises RetortError if it holds another number.

        The labels go through files in the directory for temporary files, and are read from there as they are needed.
        """
        open_table(path, LABELS)
        found = read_provenance(path).get("top_k")
        if found != top_k:
            raise RetortError(f"{path}: holds {found} tokens a position, and top_k is {top_k}; make it again")
        ids, counts = [np.zeros(0, np.int64)], [np.zeros(1, np.int64)]
        tokens, probabilities = Spool(np.int32, "labels"), Spool(np.float16, "labels")
        for part in iterate_table(path, LABELS):
            ids.append(part["id"].to_numpy())
            counts.append(part["positions"].to_numpy())
            tokens.append(pc.list_flatten(part["tokens"]).to_numpy())
            probabilities.append(pc.list_flatten(part["probabilities"]).to_numpy())
        if len(ids) == 1:
            raise RetortError(f"{path}: holds no labels; make it again")
        tokens_nk = tokens.mapped().reshape(-1, top_k)
        probabilities_nl = probabilities.mapped().reshape(-1, top_k + 1)
        return cls(np.concatenate(ids), np.cumsum(np.concatenate(counts)), tokens_nk, probabilities_nl)

    def of(self, ids: Tensor) -> TopK:
        """Labels of a batch with these pairs."""
        rows = self.order[np.searchsorted(self.ids, ids.numpy())]
        where_n = positions_of(self.offsets, rows)
        # half precision leaves sums that are not quite one
        probabilities_nl = torch.from_numpy(self.probabilities_nl[where_n].astype(np.float32))
        probabilities_nl /= probabilities_nl.sum(1, keepdim=True)
        tokens_nk = torch.from_numpy(self.tokens_nk[where_n].astype(np.int64))
        return TopK(tokens_nk, probabilities_nl[:, :-1], probabilities_nl[:, -1])

    def check(self, path: Path | str, ids: np.ndarray, lengths: np.ndarray, made_from: Mapping[str, str]) -> None:
        """Raise RetortError unless the table at ``path`` is that of these pairs, whose targets have ``lengths`` tokens,
        and says in its provenance that it was ``made_from`` these digests."""
        again = "labels are made for one training table, vocabulary and teacher: make them again"
        missing = np.setdiff1d(ids, self.ids)
        if len(missing):
            first = ", ".join(str(i) for i in missing[:5])
            raise RetortError(f"{path}: no labels for {len(missing)} of {len(ids)} pairs, first ids {first}; {again}")
        rows = self.order[np.searchsorted(self.ids, ids)]
        found = self.offsets[rows + 1] - self.offsets[rows]
        if (found != lengths + 1).any():
            i, count = int((found != lengths + 1).argmax()), int((found != lengths + 1).sum())
            raise RetortError(
                f"{path}: {count} pair(s) with labels for another length, first id {ids[i]} with "
                f"{found[i]} positions for {lengths[i]} target tokens and eos; {again}"
            )
        facts = read_provenance(path)
        for name, digest in made_from.items():
            if facts.get(name) != digest:
                raise RetortError(
                    f"{path}: made with another {name} ({str(facts.get(name))[:12]}, expected {digest[:12]}); {again}"
                )


def positions_of(offsets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Positions of the given rows, one row after the other, where row i has offsets[i] to offsets[i + 1] - 1."""
    starts, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]
    ends = np.cumsum(lengths)
    return np.arange(ends[-1]) + np.repeat(starts - ends + lengths, lengths)
