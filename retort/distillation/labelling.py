"""Stores the teacher's most probable tokens at each position of given targets; a training then needs no teacher.

Shape letters: n positions (of all targets, eos included), c positions of a chunk, k stored tokens, v vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from retort.data.batches import EncodedCorpus
from retort.data.tables import LABELS
from retort.data.teacher_labels import TopK, positions_of
from retort.data.vocabulary import PAD
from retort.distillation.label_shards import COVERAGE
from retort.errors import RetortError
from retort.losses.teacher_forcing import shifted_right
from retort.losses.top_k_cross_entropy import top_k_chunks

if TYPE_CHECKING:
    from retort.models.autoregressive import AutoregressiveModel


@torch.no_grad()
def label(teacher: AutoregressiveModel, corpus: EncodedCorpus, top_k: int, batch_tokens: int) -> pa.Table:
    """The LABELS table of a corpus, with ``top_k`` tokens per position.

    Raises RetortError if the vocabulary has fewer tokens, or if a pair is longer than the teacher's limit.
    """
    _check(teacher, corpus, top_k)
    counts = corpus.target.lengths + 1
    offsets = np.concatenate([[0], np.cumsum(counts)])
    tokens_nk = np.zeros((offsets[-1], top_k), np.int32)
    probabilities_nl = np.zeros((offsets[-1], top_k + 1), np.float16)
    coverage_n3 = np.zeros((offsets[-1], len(COVERAGE)), np.float32)
    for rows in corpus.batches(batch_tokens):
        batch = corpus.batch(rows).to(teacher.device)
        real_bt = batch.target_bt != PAD
        states_nd = teacher(batch.source_bs, shifted_right(batch.target_bt))[real_bt]
        where_n = positions_of(offsets, rows)
        start = 0
        for probabilities_cv, top in top_k_chunks(states_nd, teacher.embeddings.output, top_k):
            where_c = where_n[start : start + len(probabilities_cv)]
            tokens_nk[where_c] = top.tokens_nk.cpu().numpy()
            probabilities_nl[where_c] = _with_rest(top).cpu().numpy()
            coverage_n3[where_c] = _coverage(probabilities_cv, top).cpu().numpy()
            start += len(where_c)
    sums = np.add.reduceat(coverage_n3, offsets[:-1]) if len(corpus) else coverage_n3
    columns = {
        "id": pa.array(corpus.ids),
        "positions": pa.array(counts, pa.int32()),
        "tokens": _lists(tokens_nk, offsets),
        "probabilities": _lists(probabilities_nl, offsets),
        **{name: pa.array(sums[:, i]) for i, name in enumerate(COVERAGE)},
    }
    return pa.table(columns, schema=LABELS.schema)


def _check(teacher: AutoregressiveModel, corpus: EncodedCorpus, top_k: int) -> None:
    size, longest = teacher.embeddings.output.shape[0], teacher.config.max_length
    if top_k > size:
        raise RetortError(f"{top_k} tokens per position cannot be stored for a vocabulary of {size}; lower top_k")
    lengths = corpus.longer_side + 1
    if (lengths > longest).any():
        count, first = int((lengths > longest).sum()), corpus.ids[int((lengths > longest).argmax())]
        raise RetortError(
            f"{count} pair(s) are longer than the teacher's {longest} tokens, first id {first}; "
            f"raise the teacher's model.max_length"
        )


def _with_rest(top: TopK) -> Tensor:
    return torch.cat([top.probabilities_nk, top.rest_n[:, None]], 1)


def _coverage(probabilities_cv: Tensor, top: TopK) -> Tensor:
    """The columns COVERAGE per position [c, 3]: probability mass, and two entropies in nats."""
    entropy_c = torch.special.entr(probabilities_cv).sum(1)
    stored_entropy_c = torch.special.entr(_with_rest(top)).sum(1)
    return torch.stack([top.probabilities_nk.sum(1), entropy_c, stored_entropy_c], 1)


def _lists(values: np.ndarray, offsets: np.ndarray) -> pa.ListArray:
    """One list per pair: the values of all its positions."""
    return pa.ListArray.from_arrays(pa.array(offsets * values.shape[1], pa.int32()), pa.array(values.ravel()))
