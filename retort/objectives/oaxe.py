"""Order-agnostic cross entropy: the cross entropy of the best order of the target's tokens (Du et al. 2021).

Trained from scratch it would accept every order and learn none, so training begins with position-wise cross entropy.

Shape letters: b batch, s source position, t slot, i target token, d width.
"""

from __future__ import annotations

from torch import Tensor

from retort.config import Oaxe
from retort.data.batches import Batch
from retort.data.vocabulary import MASK, PAD
from retort.losses.base import MIN_WEIGHT, Loss
from retort.losses.best_order import best_order
from retort.losses.token_log_probs import token_log_probs, uniform_log_probs
from retort.models.parallel import ParallelModel
from retort.objectives.base import Step
from retort.objectives.shared.masked_targets import masked_log_likelihood, masked_loss
from retort.objectives.shared.predicted_length import length_loss


def compute(model: ParallelModel, batch: Batch, options: Oaxe, step: Step) -> Loss:
    """Weighted mean cross entropy per target token, eos included, plus the weighted length loss; all slots are masked.

    In training, the first ``warmup_share`` is the objective ``vanilla``. After that, tokens whose probability is below
    ``truncation`` even in the best order are left out, except for their label smoothing. ``nll`` has all tokens.
    """
    real_bt = batch.target_bt != PAD
    if model.training and step.progress < options.warmup_share:
        return masked_loss(model, batch, options=options, masked_bt=real_bt)
    memory_bsd, memory_bias = model.encode(batch.source_bs)
    states_btd = model.decode_tokens(batch.target_bt.masked_fill(real_bt, MASK), memory_bsd, memory_bias)
    log_probs_bti = token_log_probs(states_btd, model.embeddings.output, batch.target_bt)
    order_bt = best_order(log_probs_bti, real_bt.sum(1))
    aligned_bt = log_probs_bti.gather(2, order_bt[:, :, None])[:, :, 0]
    truncated_bt = real_bt & (aligned_bt.detach().exp() < options.truncation)
    weights_bt = batch.weights[:, None] * real_bt
    tokens = weights_bt.sum().clamp(min=MIN_WEIGHT)
    nll = -(aligned_bt * weights_bt).sum()
    total = nll
    if model.training:
        uniform_bt = uniform_log_probs(
            states_btd, model.embeddings.output, tokens_bk=batch.target_bt, log_probs_btk=log_probs_bti
        )
        truncated_nll = -(aligned_bt * weights_bt * ~truncated_bt).sum()
        uniform = -(uniform_bt * weights_bt).sum()
        total = (1 - options.label_smoothing) * truncated_nll + options.label_smoothing * uniform
    length = length_loss(model, batch, memory_bsd)
    parts = {"nll": nll.detach() / tokens, "length": length.detach(), "truncated": truncated_bt.sum() / real_bt.sum()}
    return Loss(total / tokens + options.length_weight * length, parts)


def log_likelihood(model: ParallelModel, batch: Batch, options: Oaxe) -> Tensor:
    """log P(y | x) of each pair in its own order, as search would output it, its length included: nats [b]."""
    return masked_log_likelihood(model, batch)
