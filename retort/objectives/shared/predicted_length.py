"""Loss and log-probabilities of the parallel family's length predictor.

Shape letters: b batch, s source position, d width, l length class.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.data.batches import Batch
from retort.data.vocabulary import PAD
from retort.losses.base import MIN_WEIGHT
from retort.models.parallel import ParallelModel, length_class


def length_loss(model: ParallelModel, batch: Batch, memory_bsd: Tensor) -> Tensor:
    """Weighted mean over sentences of -log P(length | source): nats."""
    length_b = (batch.target_bt != PAD).sum(1)
    class_b = length_class(model, batch.source_bs, length_b)
    log_probs_b = _log_probs_of_classes(model, batch.source_bs, memory_bsd=memory_bsd, class_b=class_b)
    return -(log_probs_b * batch.weights).sum() / batch.weights.sum().clamp(min=MIN_WEIGHT)


def length_log_probs(model: ParallelModel, source_bs: Tensor, memory_bsd: Tensor, length_b: Tensor) -> Tensor:
    """log P(length | source) of target lengths that include eos: nats [b]; -inf of lengths that have no class."""
    class_b = length_class(model, source_bs, length_b)
    log_probs_b = _log_probs_of_classes(model, source_bs, memory_bsd=memory_bsd, class_b=class_b)
    predictable_b = class_b + model.length_offset((source_bs != PAD).sum(1)) == length_b
    return log_probs_b.masked_fill(~predictable_b, -torch.inf)


def _log_probs_of_classes(model: ParallelModel, source_bs: Tensor, memory_bsd: Tensor, class_b: Tensor) -> Tensor:
    log_probs_bl = torch.log_softmax(model.predict_length(source_bs, memory_bsd).float(), -1)
    return log_probs_bl.gather(1, class_b[:, None])[:, 0]
