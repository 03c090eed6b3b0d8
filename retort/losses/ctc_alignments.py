"""Alignments of connectionist temporal classification (Graves et al. 2006): their sum, and the best one.

An alignment writes the target into the slots in order. Any token may be repeated, blanks may be anywhere, and equal
neighbours have at least one blank between them. A target of n tokens with r equal neighbours needs n + r slots.

Shape letters: b batch, l layer, t slot, n target token, k = n + 1 classes of a sentence (blank and its own tokens),
d width, v vocabulary, u = 2 n + 1 states of an alignment (a blank, and each token followed by a blank).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from retort.data.batches import Batch
from retort.data.vocabulary import BLANK, EOS, PAD
from retort.losses.base import MIN_WEIGHT, Loss
from retort.losses.token_log_probs import token_log_probs, uniform_log_probs


class CtcTarget(NamedTuple):
    """What alignments write into the slots."""

    tokens_bn: Tensor
    """Target tokens without eos."""
    length_b: Tensor
    """Their number."""
    slots_b: Tensor
    """Number of slots that they need."""
    classes_bk: Tensor
    """The token of each class: blank, then the target's tokens."""


def ctc_target(batch: Batch) -> CtcTarget:
    """The targets of a batch."""
    tokens_bn = batch.target_bt.masked_fill(batch.target_bt == EOS, PAD)
    real_bn = tokens_bn != PAD
    length_b = real_bn.sum(1)
    repeats_b = ((tokens_bn[:, 1:] == tokens_bn[:, :-1]) & real_bn[:, 1:]).sum(1)
    classes_bk = torch.cat([tokens_bn.new_full((len(tokens_bn), 1), BLANK), tokens_bn], 1)
    return CtcTarget(tokens_bn, length_b, slots_b=length_b + repeats_b, classes_bk=classes_bk)


def ctc_loss(
    layers: list[Tensor],
    weight_vd: Tensor,
    target: CtcTarget,
    slots_b: Tensor,
    weight_b: Tensor,
    label_smoothing: float = 0.0,
) -> Loss:
    """Weighted mean per target token (no eos), over the sentences whose slots can hold their target.

    The other sentences are counted as ``infeasible``; targets without tokens are left out, too. The total is averaged
    over the ``layers`` of states [b, t, d] that predict; ``nll`` is the last layer's. ``weight_b`` are the samples'
    weights.

    Label smoothing moves its share of the loss to the cross entropy of the slots with the uniform distribution: for
    each target token the mean over the sentence's slots.
    """
    feasible_b = slots_b >= target.slots_b
    counted_b = feasible_b & (target.length_b > 0)
    tokens = (target.length_b * counted_b * weight_b).sum().clamp(min=MIN_WEIGHT)
    nlls, totals = [], []
    for states_btd in layers:
        log_probs_btk = token_log_probs(states_btd, weight_vd, target.classes_bk)
        nll_b = ctc_nll(log_probs_btk, target.tokens_bn, slots_b=slots_b, length_b=target.length_b)
        total_b = nll_b
        if label_smoothing:
            uniform_bt = uniform_log_probs(states_btd, weight_vd, target.classes_bk, log_probs_btk=log_probs_btk)
            inside_bt = torch.arange(uniform_bt.shape[1], device=slots_b.device) < slots_b[:, None]
            uniform_b = -(uniform_bt * inside_bt).sum(1) / slots_b * target.length_b
            total_b = (1 - label_smoothing) * nll_b + label_smoothing * uniform_b
        nll, total = ((torch.where(counted_b, x_b, 0.0) * weight_b).sum() / tokens for x_b in (nll_b, total_b))
        nlls.append(nll.detach())
        totals.append(total)
    parts = {"nll": nlls[-1], "infeasible": (~feasible_b).float().mean()}
    return Loss(torch.stack(totals).mean(), parts, tokens)


def best_tokens(states_btd: Tensor, weight_vd: Tensor, target: CtcTarget, slots_b: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens or blanks of the best alignment [b, t], and which slots have one: boolean [b, t].

    No slot of a sentence has one whose target does not fit.
    """
    inside_bt = torch.arange(states_btd.shape[1], device=slots_b.device) < slots_b[:, None]
    # a slot's normaliser is the same for all alignments, so logits serve as scores
    scores_btk = states_btd.float() @ weight_vd[target.classes_bk].float().transpose(1, 2)
    class_bt = best_alignment(scores_btk, target.tokens_bn, slots_b=slots_b, length_b=target.length_b)
    return target.classes_bk.gather(1, class_bt), inside_bt & (slots_b >= target.slots_b)[:, None]


def sentence_nll(states_btd: Tensor, weight_vd: Tensor, target: CtcTarget, slots_b: Tensor) -> Tensor:
    """-log P(y | x): nats [b]. Decoder states beyond a sentence's ``slots_b`` are ignored."""
    log_probs_btk = token_log_probs(states_btd, weight_vd, target.classes_bk)
    return ctc_nll(log_probs_btk, target.tokens_bn, slots_b=slots_b, length_b=target.length_b)


def ctc_nll(log_probs_btk: Tensor, target_bn: Tensor, slots_b: Tensor, length_b: Tensor) -> Tensor:
    """-log P(target) [b]: the sum over alignments that merge repeats and drop blanks; inf where none fits.

    Class 0 of ``log_probs`` is the blank, class i + 1 the i-th token of the sentence's own target.
    """
    # equal tokens must be equal classes, or the kernel would not require a blank between them
    same_bnn = target_bn[:, :, None] == target_bn[:, None, :]
    classes_bn = same_bnn.int().argmax(2) + 1
    return _Ctc.apply(log_probs_btk, classes_bn, slots_b, length_b)  # type: ignore[no-any-return]


class _Ctc(torch.autograd.Function):
    """torch's CTC kernel with the true gradient. Torch's own gradient assumes probabilities that sum to 1 over the
    classes, and adds their softmax."""

    @staticmethod
    def forward(ctx: Any, log_probs_btk: Tensor, classes_bn: Tensor, slots_b: Tensor, length_b: Tensor) -> Tensor:
        log_probs_tbk = log_probs_btk.transpose(0, 1).contiguous()
        slots = slots_b.tolist()
        lengths = length_b.tolist()
        nll_b, log_alpha = torch._ctc_loss(log_probs_tbk, classes_bn, slots, lengths, 0, False)
        ctx.save_for_backward(log_probs_tbk, classes_bn, nll_b, log_alpha)
        ctx.lengths = (slots, lengths)
        return nll_b

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        log_probs_tbk, classes_bn, nll_b, log_alpha = ctx.saved_tensors
        slots, lengths = ctx.lengths
        # sentences without an alignment have gradient 0; the caller decides how to count them
        gradient_b = torch.where(torch.isfinite(nll_b), gradients[0], 0.0).contiguous()
        finite_b = torch.where(torch.isfinite(nll_b), nll_b, 0.0)
        gradient_tbk = torch.ops.aten._ctc_loss_backward(
            gradient_b, log_probs_tbk, classes_bn, slots, lengths, finite_b, log_alpha, 0, True
        )
        inside = torch.arange(len(log_probs_tbk), device=gradient_tbk.device)[:, None] < torch.tensor(
            slots, device=gradient_tbk.device
        )
        softmax_tbk = log_probs_tbk.exp() * gradient_b[None, :, None] * inside[:, :, None]
        return (gradient_tbk - softmax_tbk).transpose(0, 1), None, None, None


@torch.no_grad()
def best_alignment(scores_btk: Tensor, target_bn: Tensor, slots_b: Tensor, length_b: Tensor) -> Tensor:
    """Class [b, t] of each slot in the alignment with the largest sum of scores (the Viterbi path).

    The classes are those of ``ctc_nll``. Scores are log-probabilities, up to a constant per slot. The values beyond a
    sentence's slots, and of sentences without an alignment, are meaningless.
    """
    b, t, k = scores_btk.shape
    state_u = torch.arange(2 * k - 1, device=scores_btk.device)
    class_u = torch.where(state_u % 2 == 1, (state_u + 1) // 2, 0)
    emission_tbu = scores_btk.float()[:, :, class_u].transpose(0, 1)
    # a token may directly follow a different one
    jump_bu = torch.full((b, 2 * k - 1), float("-inf"), device=scores_btk.device)
    jump_bu[:, 3::2] = jump_bu[:, 3::2].masked_fill(target_bn[:, 1:] != target_bn[:, :-1], 0.0)
    inside_tb1 = (torch.arange(t, device=slots_b.device)[:, None] < slots_b)[:, :, None]
    best_bu = emission_tbu[0].masked_fill(state_u > 1, float("-inf"))
    steps_tbu = torch.zeros(emission_tbu.shape, dtype=torch.int8, device=scores_btk.device)
    for i in range(1, t):
        before_bu = functional.pad(best_bu, (2, 0), value=float("-inf"))
        choices_3bu = torch.stack([best_bu, before_bu[:, 1:-1], before_bu[:, :-2] + jump_bu])
        reached_bu, step_bu = choices_3bu.max(0)
        best_bu = torch.where(inside_tb1[i], reached_bu + emission_tbu[i], best_bu)
        steps_tbu[i] = step_bu * inside_tb1[i]
    # the last state is the last token or the blank after it
    last_b1 = 2 * length_b[:, None]
    token_b1 = (last_b1 - 1).clamp(min=0)
    place_b1 = torch.where(best_bu.gather(1, token_b1) > best_bu.gather(1, last_b1), token_b1, last_b1)
    places = []
    for step_bu in steps_tbu.flip(0):
        places.append(place_b1)
        place_b1 = (place_b1 - step_bu.gather(1, place_b1)).clamp(min=0)
    return class_u[torch.cat(places[::-1], 1)]
