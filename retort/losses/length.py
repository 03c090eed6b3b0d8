"""Cross entropy of the parallel family's length predictor."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from retort.batches import Batch
from retort.models.parallel import ParallelModel, length_class
from retort.vocabulary import PAD


def length_loss(model: ParallelModel, batch: Batch, memory_bsd: Tensor) -> Tensor:
    """Mean over sentences, in nats."""
    logits_bl = model.predict_length(batch.source_bs, memory_bsd)
    target_b = length_class((batch.source_bs != PAD).sum(1), (batch.target_bt != PAD).sum(1))
    return functional.cross_entropy(logits_bl.float(), target_b)
