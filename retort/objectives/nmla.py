"""Expected bigram F1 of CTC's outputs: non-monotonic latent alignments (Shao and Feng 2022).

Shape letters: b batch, l layer, t slot, n target token, d width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import Nmla
from retort.data.batches import Batch
from retort.data.vocabulary import BLANK, PAD
from retort.losses.base import MIN_WEIGHT, Loss
from retort.losses.ctc_alignments import CtcTarget, ctc_loss, ctc_target
from retort.losses.expected_ngrams import bigrams_of, ctc_bigram_total, ctc_bigrams, matched
from retort.losses.repeat_probs import repeat_probs
from retort.losses.token_log_probs import token_log_probs
from retort.models.parallel import ParallelModel
from retort.objectives.base import Step
from retort.objectives.shared.ctc_slots import ctc_agreement, ctc_log_likelihood

log_likelihood, agreement = ctc_log_likelihood, ctc_agreement


def compute(model: ParallelModel, batch: Batch, options: Nmla, step: Step) -> Loss:
    """1 - F1, weighted mean over the sentences that have bigrams and over the layers that predict, plus
    ``likelihood_weight`` x the loss of ``ctc``.

    ``f1`` is the last layer's. In evaluation mode ``nll`` is that of ``ctc``. Where the likelihood has no weight,
    ``short`` is the share of the sentences without bigrams, which train nothing.
    """
    layers, slots_b = model.layers_of_upsampled(batch.source_bs, *model.encode(batch.source_bs))
    target, weight_vd = ctc_target(batch), model.embeddings.output
    f1_lb = torch.stack([bigram_f1(states_btd, weight_vd, target=target, slots_b=slots_b) for states_btd in layers])
    short_b = target.length_b < 2
    weights_b = batch.weights * ~short_b
    sentences = weights_b.sum().clamp(min=MIN_WEIGHT)
    f1_l = (f1_lb * weights_b).sum(1) / sentences
    parts = {"f1": f1_l[-1].detach()}
    if not options.likelihood_weight:
        parts["short"] = short_b.float().mean()
    loss = Loss(1 - f1_l.mean(), parts, sentences)
    if options.likelihood_weight or not model.training:
        likelihood = ctc_loss(layers, weight_vd, target=target, slots_b=slots_b, weight_b=batch.weights)
        loss = loss.plus(options.likelihood_weight * likelihood.total, likelihood.tokens, likelihood.parts)
    return loss


def bigram_f1(states_btd: Tensor, weight_vd: Tensor, target: CtcTarget, slots_b: Tensor) -> Tensor:
    """2 x expected matches / (expected bigrams of the output + bigrams of the target) [b]; 0 for a target of fewer
    than two tokens."""
    log_probs_btk = token_log_probs(states_btd, weight_vd, target.classes_bk)
    expected_bg = ctc_bigrams(log_probs_btk, target.tokens_bn, slots_b=slots_b)
    matches_b = matched(expected_bg, *bigrams_of(target.tokens_bn, PAD))
    repeats_bt = repeat_probs(states_btd, weight_vd, blank=BLANK)
    total_b = ctc_bigram_total(log_probs_btk[:, :, 0], repeats_bt, slots_b=slots_b)
    return 2 * matches_b / (total_b + (target.length_b - 1).clamp(min=1))
