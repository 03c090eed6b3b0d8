"""Likelihood and agreement of models that CTC trains.

Shape letters: b batch, t slot, d width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import ObjectiveSection
from retort.data.batches import Batch
from retort.losses.ctc_alignments import best_tokens, ctc_target, sentence_nll
from retort.models.kernels import most_probable
from retort.models.parallel import ParallelModel


@torch.no_grad()
def ctc_log_likelihood(model: ParallelModel, batch: Batch, options: ObjectiveSection) -> Tensor:
    """log P(y | x) of each pair: nats [b]; -inf where the slots cannot hold the target."""
    target = ctc_target(batch)
    states_btd, slots_b = model.decode_upsampled(batch.source_bs, *model.encode(batch.source_bs))
    nll_b = sentence_nll(states_btd, model.embeddings.output, target=target, slots_b=slots_b)
    return torch.where(slots_b >= target.slots_b, -nll_b, float("-inf"))


@torch.no_grad()
def ctc_agreement(model: ParallelModel, batch: Batch, options: ObjectiveSection) -> Tensor:
    """Share of each sentence's slots whose most probable token is that of the target's best alignment: [b].

    0 where the slots cannot hold the target.
    """
    target = ctc_target(batch)
    states_btd, slots_b = model.decode_upsampled(batch.source_bs, *model.encode(batch.source_bs))
    aligned_bt, inside_bt = best_tokens(states_btd, model.embeddings.output, target=target, slots_b=slots_b)
    right_bt = (most_probable(states_btd, model.embeddings.output) == aligned_bt) & inside_bt
    return right_bt.sum(1) / slots_b
