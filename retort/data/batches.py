"""Encoded pairs in flat arrays, and length-bucketed batches of padded tensors. The seed alone decides their order.

Shape letters: b batch, s source position, t target position.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from retort.data.parquet import Table, iterate_table, read_provenance
from retort.data.spool import Spool
from retort.data.tables import ENCODED, MIXED
from retort.data.vocabulary import EOS, PAD, Vocabulary
from retort.errors import RetortError

log = logging.getLogger(__name__)

LENGTH_STEP = 4
"""Padded lengths are multiples of this: few distinct shapes occur, and each new one costs kernel preparation."""

ROOM_FOR_PAIRS = "raise model.max_length, or cut long sources by model.truncate_sources; targets are never cut"
"""What to do about pairs that are longer than the model."""

Lengths = TypeVar("Lengths", int, np.ndarray)


def round_up(x: Lengths, multiple: int) -> Lengths:
    """The smallest multiple of ``multiple`` that is at least ``x``, for an integer or each of an array."""
    return -(-x // multiple) * multiple


@dataclass(frozen=True)
class Batch:
    """Padded token ids, int64; every sentence ends with eos."""

    ids: Tensor
    source_bs: Tensor
    target_bt: Tensor
    distilled_b: Tensor | None = None
    """Which targets are the teacher's, boolean; None if the table does not mix them with references."""
    weight_b: Tensor | None = None
    """Weight of each sample in the loss, from 0 to 1; None: all weigh 1."""
    scale: Tensor | None = None
    """What the loss, a mean by these weights, is multiplied by: a number; None: by 1."""
    gone: tuple[int, int] = (0, 0)
    """Samples that self-pacing took out of the batch by their losses, and those of them that no alignment fits."""

    @property
    def weights(self) -> Tensor:
        """Weight of each sample in the loss: float32 [b]."""
        if self.weight_b is None:
            return torch.ones(len(self.source_bs), device=self.source_bs.device)
        return self.weight_b

    @property
    def target_tokens(self) -> int:
        """Number of target tokens, eos included, padding not."""
        return int((self.target_bt != PAD).sum())

    def weights_at(self, chosen_bt: Tensor) -> Tensor:
        """Sample weight of each position that ``chosen_bt`` (boolean) selects: float32 [n]."""
        return self.weights[:, None].expand_as(chosen_bt)[chosen_bt]

    def to(self, device: torch.device) -> Batch:
        """The batch with its tensors on ``device``; the ids stay where they are."""
        return replace(
            self,
            source_bs=self.source_bs.to(device),
            target_bt=self.target_bt.to(device),
            distilled_b=None if self.distilled_b is None else self.distilled_b.to(device),
            weight_b=None if self.weight_b is None else self.weight_b.to(device),
            scale=None if self.scale is None else self.scale.to(device),
        )

    def weighted(self, weight_b: Tensor) -> Batch:
        """The batch with these weights. Samples of weight 0 are left out, unless all weights are 0."""
        rows = weight_b.nonzero()[:, 0]
        if not 0 < len(rows) < len(weight_b):
            return replace(self, weight_b=weight_b)
        return replace(
            self,
            ids=self.ids[rows.cpu()],
            source_bs=self.source_bs[rows],
            target_bt=self.target_bt[rows],
            distilled_b=None if self.distilled_b is None else self.distilled_b[rows],
            weight_b=weight_b[rows],
        )


class Ragged:
    """Token sequences of differing lengths in one flat array."""

    def __init__(self, tokens: np.ndarray, offsets: np.ndarray) -> None:
        """Sequence i holds ``tokens[offsets[i] : offsets[i + 1]]``."""
        self.tokens, self.offsets = tokens, offsets

    @classmethod
    def from_arrow(cls, column: pa.ChunkedArray) -> Ragged:
        """The sequences of a list column."""
        lists = column.combine_chunks()
        if isinstance(lists, pa.ChunkedArray):
            lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], column.type)
        offsets = lists.offsets.to_numpy().astype(np.int64)
        tokens = lists.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]]
        return cls(tokens.astype(np.int32), offsets - offsets[0])

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[int]]) -> Ragged:
        """The sequences of a list of lists."""
        lengths = np.fromiter((len(tokens) for tokens in lists), np.int64, len(lists))
        flat = np.fromiter((token for tokens in lists for token in tokens), np.int32, int(lengths.sum()))
        return cls(flat, np.concatenate([[0], np.cumsum(lengths)]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Length of each sequence, int32; exact for larger offsets too, because differences are modulo 2 ** 32."""
        return np.subtract(self.offsets[1:], self.offsets[:-1], dtype=np.int32, casting="unsafe")

    def lists(self) -> list[list[int]]:
        """All rows as lists."""
        return [self.tokens[start:stop].tolist() for start, stop in pairwise(self.offsets)]

    def select(self, rows: np.ndarray) -> Ragged:
        """The given rows, in this order."""
        return Ragged.from_lists([self.tokens[self.offsets[r] : self.offsets[r + 1]].tolist() for r in rows])

    def padded(self, rows: np.ndarray, step: int = LENGTH_STEP, longest: int | None = None) -> Tensor:
        """The rows as int64 [b, t], cut to ``longest`` tokens, eos appended, padded to the longest and then to a
        multiple of ``step``."""
        lengths = self.offsets[1:][rows] - self.offsets[:-1][rows]
        if longest is not None:
            lengths = np.minimum(lengths, longest)
        width = round_up(int(lengths.max()) + 1, step)
        columns = np.arange(width)
        inside = columns < lengths[:, None]
        where = np.where(inside, self.offsets[rows][:, None] + columns, 0)
        padded = np.where(inside, self.tokens[where] if len(self.tokens) else 0, PAD)
        padded[np.arange(len(rows)), lengths] = EOS
        return torch.from_numpy(padded.astype(np.int64))


class _Spooled:
    """Token sequences, appended to a file part by part."""

    def __init__(self) -> None:
        self.tokens = Spool(np.int32, "encoded text, 4 bytes per token")
        self.lengths = [np.zeros(0, np.int32)]

    def add(self, column: pa.ChunkedArray) -> None:
        part = Ragged.from_arrow(column)
        self.tokens.append(part.tokens)
        self.lengths.append(part.lengths)

    def ragged(self) -> Ragged:
        """The sequences, mapped from the file."""
        lengths = np.concatenate(self.lengths)
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return Ragged(self.tokens.mapped(), offsets)


class EncodedCorpus:
    """Encoded pairs: 24 bytes per pair in memory, and 4 bytes per token in memory or mapped from disk."""

    def __init__(
        self, ids: np.ndarray, source: Ragged, target: Ragged, distilled: np.ndarray | None = None, dropped: int = 0
    ) -> None:
        """``distilled``: which targets are the teacher's, if the table mixes them with references; boolean [pairs].
        ``dropped``: rows of the table that are left out, because they are too long."""
        self.ids, self.source, self.target, self.distilled = ids, source, target, distilled
        self.dropped = dropped

    @classmethod
    def read(
        cls, path: Path | str, longest: int, table: Table = ENCODED, drop_longer: bool = True, paired: bool = False
    ) -> EncodedCorpus:
        """Read an ENCODED or a MIXED table. Its tokens are mapped from files in the directory for temporary files.

        With ``paired``, rows without a target, which are source-only text, are left out.
        Ids with a side of more than ``longest`` tokens, eos included, are left out with all their rows, and counted.
        Raises RetortError if no pairs are left, or for such an id if not ``drop_longer``.
        """
        corpus = cls._read(path, table, paired)
        too_long = corpus.longer_side + 1 > longest
        if not too_long.any():
            return corpus
        row = int(too_long.argmax())
        found = (
            f"{path}: {int(too_long.sum()):,} of {len(corpus):,} pair(s) longer than the model's {longest} tokens, "
            f"first id {corpus.ids[row]} with {corpus.source.lengths[row]} source and {corpus.target.lengths[row]} "
            f"target tokens"
        )
        dropped_ids = np.unique(corpus.ids[too_long])
        if not drop_longer:
            raise RetortError(f"{found}; drop them by training.long_pairs: drop, or {ROOM_FOR_PAIRS}")
        if np.isin(corpus.ids, dropped_ids).all():
            raise RetortError(f"{found}; no pair is left: {ROOM_FOR_PAIRS}")
        log.warning("%s; they are dropped", found)
        return cls._read(path, table, paired, without=dropped_ids)

    @classmethod
    def _read(cls, path: Path | str, table: Table, paired: bool, without: np.ndarray | None = None) -> EncodedCorpus:
        """All rows but those of the ids ``without``; if ``paired``, without those that lack a target."""
        ids: list[np.ndarray] = []
        distilled: list[np.ndarray] = []
        source, target = _Spooled(), _Spooled()
        dropped = 0
        for whole in iterate_table(path, table):
            if paired:
                whole = whole.filter(pc.greater(pc.list_value_length(whole.column("target")), 0))
            part = whole
            if without is not None:
                part = whole.filter(pa.array(~np.isin(whole.column("id").to_numpy(), without)))
                dropped += whole.num_rows - part.num_rows
            if table is MIXED:
                distilled.append(part.column("distilled").to_numpy())
            ids.append(part.column("id").to_numpy())
            source.add(part.column("source"))
            target.add(part.column("target"))
        if not any(map(len, ids)):
            raise RetortError(f"{path}: holds no pairs; see the cleaning table for what was dropped and why")
        return cls(
            ids=np.concatenate(ids),
            source=source.ragged(),
            target=target.ragged(),
            distilled=np.concatenate(distilled) if distilled else None,
            dropped=dropped,
        )

    def check_vocabulary(self, path: Path | str, vocabulary: Vocabulary) -> None:
        """Raises RetortError if the table at ``path``, which this was read from, was encoded with another vocabulary,
        as far as the table tells, or holds tokens that the vocabulary lacks."""
        advice = "encode it with the vocabulary that is given, or give the one it was encoded with"
        if read_provenance(path).get("vocabulary", vocabulary.digest) != vocabulary.digest:
            raise RetortError(f"{path}: encoded with another vocabulary; {advice}")
        sides = (("source", self.source, vocabulary.source_size), ("target", self.target, vocabulary.target_size))
        for side, ragged, size in sides:
            for token in (int(ragged.tokens.min(initial=0)), int(ragged.tokens.max(initial=0))):
                if not 0 <= token < size:
                    raise RetortError(f"{path}: holds {side} token {token}, and the vocabulary has {size}; {advice}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def longer_side(self) -> np.ndarray:
        """Length of the longer side of each pair, without eos, int32."""
        return np.maximum(self.source.lengths, self.target.lengths)

    def batches(self, batch_tokens: int, order: np.ndarray | None = None) -> list[np.ndarray]:
        """``length_batches`` by the longer side, so that long sources of short targets stay within the memory too."""
        return length_batches(self.longer_side, batch_tokens, order)

    def batch(self, rows: np.ndarray) -> Batch:
        """The given rows as padded tensors, in this order."""
        return Batch(
            ids=torch.from_numpy(self.ids[rows]),
            source_bs=self.source.padded(rows),
            target_bt=self.target.padded(rows),
            distilled_b=None if self.distilled is None else torch.from_numpy(self.distilled[rows]),
        )

    def select(self, rows: np.ndarray) -> EncodedCorpus:
        """The given rows, in this order."""
        return EncodedCorpus(
            ids=self.ids[rows],
            source=self.source.select(rows),
            target=self.target.select(rows),
            distilled=None if self.distilled is None else self.distilled[rows],
        )

    def head(self, count: int) -> EncodedCorpus:
        """A fixed subset: ``count`` pairs spread evenly over the corpus."""
        return self.select(np.unique(evenly_spread(len(self), count)))


def evenly_spread(total: int, count: int) -> np.ndarray:
    """``count`` of ``total`` rows, from the first to the last; all of them where there are fewer."""
    return np.linspace(0, total - 1, min(count, total)).astype(np.int64)


def length_batches(lengths: np.ndarray, batch_tokens: int, order: np.ndarray | None = None) -> list[np.ndarray]:
    """Row numbers grouped by length, so that rows x padded length stays within ``batch_tokens``; shortest first.

    ``lengths`` exclude eos. ``order`` holds the rows to group, and breaks ties between equal padded lengths (default:
    all, in row order). A row longer than ``batch_tokens`` is a batch of its own.
    """
    order = np.arange(len(lengths)) if order is None else order
    padded = round_up(lengths[order] + 1, LENGTH_STEP)
    ranking = np.argsort(padded, kind="stable")
    order, padded = order[ranking], padded[ranking]
    groups = []
    start = 0
    while start < len(order):
        size = _group_size(padded, start, batch_tokens)
        groups.append(order[start : start + size])
        start += size
    return groups


def _group_size(padded: np.ndarray, start: int, batch_tokens: int) -> int:
    """Number of rows from ``start`` that fit: rows are sorted, so the longest row of a group is its last."""
    most = min(max(1, batch_tokens // int(padded[start])), len(padded) - start)
    fits = np.arange(1, most + 1) * padded[start : start + most] <= batch_tokens
    return most if fits.all() else max(1, int(fits.argmin()))


def epoch_batches(corpus: EncodedCorpus, batch_tokens: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Batches of an epoch, as row numbers: a function of seed and epoch alone, so that training can resume."""
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(corpus))
    # within a padded length of the longer side, sort the shorter side too
    shorter_side = np.minimum(corpus.source.lengths, corpus.target.lengths)
    groups = corpus.batches(batch_tokens, order[np.argsort(shorter_side[order] // LENGTH_STEP, kind="stable")])
    return [groups[i] for i in generator.permutation(len(groups))]


def source_batches(source: Ragged, batch_tokens: int) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Batches for decoding: row numbers and padded sources, longest first, so that a lack of memory shows at once."""
    for rows in reversed(length_batches(source.lengths, batch_tokens)):
        yield rows, source.padded(rows)
