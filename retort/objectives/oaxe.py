"""Order-agnostic cross entropy: the cross entropy of the best order of the target's tokens (Du et al. 2021).

Trained from scratch it would accept every order and learn none, so it starts from a trained system, or training begins
with position-wise cross entropy. With n-grams, neighbours stay together (Du et al. 2022).

Shape letters: b batch, s source position, t slot, i target token, n token of an n-gram, d width.
"""

from __future__ import annotations

from retort.config import Oaxe
from retort.data.batches import Batch
from retort.data.vocabulary import MASK, PAD
from retort.losses.base import MIN_WEIGHT, Loss
from retort.losses.best_order import best_ngrams
from retort.losses.token_log_probs import token_log_probs, uniform_log_probs
from retort.models.parallel import ParallelModel
from retort.objectives.base import Step
from retort.objectives.shared.masked_targets import masked_log_likelihood, masked_loss
from retort.objectives.shared.predicted_length import length_loss

log_likelihood = masked_log_likelihood
"""Of the target in its own order, as search would output it."""


def compute(model: ParallelModel, batch: Batch, options: Oaxe, step: Step) -> Loss:
    """Weighted mean cross entropy per target token, eos included, plus the weighted length loss; all slots are masked.

    With ``ngram`` above 1 it is that of the best order of overlapping n-grams.

    In training, the first ``warmup_share`` is the objective ``vanilla``. After that, tokens whose probability is below
    ``truncation`` even in the best order are left out, except for their label smoothing. ``nll`` has all tokens.
    """
    real_bt = batch.target_bt != PAD
    if model.training and step.progress < options.warmup_share:
        return masked_loss(model, batch, options=options, masked_bt=real_bt)
    memory_bsd, memory_bias = model.encode(batch.source_bs)
    states_btd = model.decode_tokens(batch.target_bt.masked_fill(real_bt, MASK), memory_bsd, memory_bias)
    log_probs_bti = token_log_probs(states_btd, model.embeddings.output, batch.target_bt)
    aligned_btn, tokens_btn = best_ngrams(log_probs_bti, real_bt.sum(1), options.ngram)
    truncated_btn = aligned_btn.detach().exp() < options.truncation
    weights_bt, weights_btn = batch.weights[:, None] * real_bt, batch.weights[:, None, None] * tokens_btn
    tokens = weights_bt.sum().clamp(min=MIN_WEIGHT)
    nll = -(aligned_btn * weights_btn).sum()
    total = nll
    if model.training:
        uniform_bt = uniform_log_probs(
            states_btd, model.embeddings.output, tokens_bk=batch.target_bt, log_probs_btk=log_probs_bti
        )
        truncated_nll = -(aligned_btn * weights_btn * ~truncated_btn).sum()
        uniform = -(uniform_bt * weights_bt).sum()
        total = (1 - options.label_smoothing) * truncated_nll + options.label_smoothing * uniform
    length = length_loss(model, batch, memory_bsd)
    truncated = (truncated_btn * tokens_btn).sum() / real_bt.sum()
    loss = Loss(total / tokens, {"nll": nll.detach() / tokens, "truncated": truncated})
    return loss.plus(options.length_weight * length, batch.weights.sum(), {"length": length.detach()})
