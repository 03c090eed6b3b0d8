"""The teacher's k most probable next tokens at each position of a training text, read from a LABELS table.

Shape letters: n positions, k tokens, l = k + 1. Positions are those of a batch's targets, sentence by sentence, with
eos and without padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from retort.data.ids import check_known
from retort.data.parquet import iterate_table, open_table, read_provenance
from retort.data.spool import Spool
from retort.data.tables import LABELS
from retort.errors import RetortError


@dataclass(frozen=True)
class TopK:
    """Distribution at each position: the k most probable tokens, and the probability of all other tokens."""

    tokens_nk: Tensor
    probabilities_nk: Tensor
    rest_n: Tensor

    def to(self, device: torch.device) -> TopK:
        """The labels on ``device``."""
        return TopK(self.tokens_nk.to(device), self.probabilities_nk.to(device), self.rest_n.to(device))


class StoredLabels:
    """A LABELS table: 24 bytes per pair in memory, and 6 k + 2 bytes per target token mapped from disk."""

    def __init__(self, ids: np.ndarray, offsets: np.ndarray, tokens_nk: np.ndarray, probabilities_nl: np.ndarray):
        """``offsets``: first position of each pair, and the end of the last pair [pairs + 1].

        ``probabilities_nl``: of the k tokens, and of all others in the last column.
        """
        self.order = np.argsort(ids, kind="stable")
        self.ids, self.offsets = ids[self.order], offsets
        self.tokens_nk, self.probabilities_nl = tokens_nk, probabilities_nl

    @classmethod
    def read(cls, path: Path | str, top_k: int) -> StoredLabels:
        """Read a table of ``top_k`` tokens per position, mapped from files in the directory for temporary files.

        Raises RetortError if the table is empty or holds another number of tokens per position.
        """
        open_table(path, LABELS)
        stored_k = read_provenance(path).get("top_k")
        if stored_k != top_k:
            raise RetortError(f"{path}: holds {stored_k} tokens per position, and top_k is {top_k}; make it again")
        ids = [np.zeros(0, np.int64)]
        lengths = [np.zeros(1, np.int64)]
        tokens = Spool(np.int32, "labels")
        probabilities = Spool(np.float16, "labels")
        for part in iterate_table(path, LABELS):
            ids.append(part["id"].to_numpy())
            lengths.append(part["positions"].to_numpy())
            tokens.append(pc.list_flatten(part["tokens"]).to_numpy())
            probabilities.append(pc.list_flatten(part["probabilities"]).to_numpy())
        if len(ids) == 1:
            raise RetortError(f"{path}: holds no labels; make it again")
        return cls(
            ids=np.concatenate(ids),
            offsets=np.cumsum(np.concatenate(lengths)),
            tokens_nk=tokens.mapped().reshape(-1, top_k),
            probabilities_nl=probabilities.mapped().reshape(-1, top_k + 1),
        )

    def of(self, ids: Tensor) -> TopK:
        """Labels of a batch that holds these pairs; float32 probabilities, which sum to 1 per position."""
        rows = self.order[np.searchsorted(self.ids, ids.numpy())]
        where_n = positions_of(self.offsets, rows)
        # probabilities rounded to half precision do not sum to 1 exactly
        probabilities_nl = torch.from_numpy(self.probabilities_nl[where_n].astype(np.float32))
        probabilities_nl /= probabilities_nl.sum(1, keepdim=True)
        tokens_nk = torch.from_numpy(self.tokens_nk[where_n].astype(np.int64))
        return TopK(tokens_nk, probabilities_nl[:, :-1], probabilities_nl[:, -1])

    def check(self, path: Path | str, ids: np.ndarray, lengths: np.ndarray, made_from: Mapping[str, str]) -> None:
        """Raise RetortError unless the labels, from ``path``, are those of these pairs.

        ``lengths``: target tokens of each pair, without eos. ``made_from``: digests that the table's provenance must
        hold, by name.
        """
        again = "labels are made for one training table, vocabulary and teacher: make them again"
        check_known(ids, self.ids, where=path, of="the training text", advice=again)
        rows = self.order[np.searchsorted(self.ids, ids)]
        positions = self.offsets[rows + 1] - self.offsets[rows]
        differs = positions != lengths + 1
        if differs.any():
            i = int(differs.argmax())
            raise RetortError(
                f"{path}: {int(differs.sum())} pair(s) with labels for another length, first id {ids[i]} with "
                f"{positions[i]} positions for {lengths[i]} target tokens and eos; {again}"
            )
        facts = read_provenance(path)
        for name, digest in made_from.items():
            if facts.get(name) != digest:
                raise RetortError(
                    f"{path}: made with another {name} ({str(facts.get(name))[:12]}, expected {digest[:12]}); {again}"
                )


def positions_of(offsets: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Positions of the given rows, row after row; row i has the positions offsets[i] to offsets[i + 1] - 1."""
    starts = offsets[rows]
    lengths = offsets[rows + 1] - starts
    ends = np.cumsum(lengths)
    return np.arange(ends[-1]) + np.repeat(starts - ends + lengths, lengths)
