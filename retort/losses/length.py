"""Cross entropy of the parallel family's length predictor."""

from __future__ import annotations

import torch
from torch import Tensor

from retort.batches import Batch
from retort.models.parallel import ParallelModel, length_class
from retort.vocabulary import PAD


def length_loss(model: ParallelModel, batch: Batch, memory_bsd: Tensor) -> Tensor:
    """Mean over sentences, in nats."""
    return -length_log_probs(model, batch, memory_bsd).mean()


def length_log_probs(model: ParallelModel, batch: Batch, memory_bsd: Tensor) -> Tensor:
    """log P(length | source) [b] of the targets' lengths, eos included."""
    log_probs_bl = torch.log_softmax(model.predict_length(batch.source_bs, memory_bsd).float(), -1)
    target_b = length_class(model, batch.source_bs, (batch.target_bt != PAD).sum(1))
    return log_probs_bl.gather(1, target_b[:, None])[:, 0]
