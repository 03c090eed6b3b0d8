"""Log-likelihood of given targets under any model."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from retort.data.batches import Batch, Ragged, length_batches
from retort.models.base import EncoderDecoder
from retort.objectives.base import load_objective

BATCH_TOKENS = 8192
"""Padded tokens per batch, of the longer side; for callers without a setting of their own."""


@torch.inference_mode()
def log_likelihoods(
    model: EncoderDecoder,
    objective: Any,
    source: Ragged,
    target: Ragged,
    batch_tokens: int = BATCH_TOKENS,
    source_row: np.ndarray | None = None,
) -> np.ndarray:
    """log p(y | x) of every target, in nats: unsmoothed, without dropout, eos and length included.

    ``source_row`` names the source of each target; by default target i belongs to source i. Sources longer than the
    model allows are cut, as in decoding. -inf where the model cannot produce the target, as where it is that long.
    """
    log_likelihood = load_objective(objective.name).log_likelihood
    source_row = np.arange(len(target)) if source_row is None else source_row
    longest = model.config.max_length - 1
    fitting = np.flatnonzero(target.lengths <= longest)
    longer_side = np.maximum(source.lengths[source_row].clip(max=longest), target.lengths)
    result = np.full(len(target), -np.inf)
    for rows in length_batches(longer_side, batch_tokens, order=fitting):
        source_bs = source.padded(source_row[rows], longest=longest)
        batch = Batch(torch.from_numpy(rows), source_bs, target.padded(rows))
        result[rows] = log_likelihood(model, batch.to(model.device), objective).cpu().numpy()
    return result
