"""Connectionist temporal classification (Graves et al. 2006) over upsampled source positions.

Shape letters: b batch, t slot, n target token, k = n + 1 classes of a sentence (blank and its own tokens).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from retort.batches import Batch
from retort.config import Ctc
from retort.losses.base import Loss, Step
from retort.losses.gathered import gathered_log_probs
from retort.models.parallel import ParallelModel
from retort.vocabulary import BLANK, EOS, PAD


def compute(model: ParallelModel, batch: Batch, options: Ctc, step: Step) -> Loss:
    """Mean over the target tokens (no eos) of the sentences whose slots can hold their target; the others are counted.

    A target of n tokens with r adjacent repeats needs n + r slots.
    """
    nll_b, length_b, feasible_b = sentence_nll(model, batch)
    total = torch.where(feasible_b, nll_b, 0.0).sum() / (length_b * feasible_b).sum().clamp(min=1)
    return Loss(total, {"nll": total.detach(), "infeasible": (~feasible_b).float().mean()})


@torch.no_grad()
def log_likelihood(model: ParallelModel, batch: Batch, options: Ctc) -> Tensor:
    """log P(y | x) of each pair: nats [b]; -inf where the target does not fit into the slots."""
    nll_b, _, feasible_b = sentence_nll(model, batch)
    return torch.where(feasible_b, -nll_b, float("-inf"))


def sentence_nll(model: ParallelModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """-log P(y | x), target tokens without eos, and whether the slots can hold the target, each [b]."""
    memory_bsd, memory_bias = model.encode(batch.source_bs)
    states_btd, slots_b = model.decode_upsampled(batch.source_bs, memory_bsd, memory_bias)
    target_bn = batch.target_bt.masked_fill(batch.target_bt == EOS, PAD)
    length_b = (target_bn != PAD).sum(1)
    repeats_b = ((target_bn[:, 1:] == target_bn[:, :-1]) & (target_bn[:, 1:] != PAD)).sum(1)
    tokens_bk = torch.cat([target_bn.new_full((len(target_bn), 1), BLANK), target_bn], 1)
    log_probs_btk = gathered_log_probs(states_btd, model.embeddings.output, tokens_bk)
    return ctc_nll(log_probs_btk, target_bn, slots_b, length_b), length_b, slots_b >= length_b + repeats_b


def ctc_nll(log_probs_btk: Tensor, target_bn: Tensor, slots_b: Tensor, length_b: Tensor) -> Tensor:
    """-log P(target) [b]: the sum over alignments that merge repeats and drop blanks; inf where none fits.

    Class 0 of ``log_probs`` is the blank, class i + 1 the i-th token of the sentence's own target.
    """
    # equal tokens must be equal classes, or the kernel would not ask for a blank between them
    same_bnn = target_bn[:, :, None] == target_bn[:, None, :]
    classes_bn = same_bnn.int().argmax(2) + 1
    return _Ctc.apply(log_probs_btk, classes_bn, slots_b, length_b)  # type: ignore[no-any-return]


class _Ctc(torch.autograd.Function):
    """torch's CTC kernel with the true gradient: its own assumes classes that sum to one and adds their softmax."""

    @staticmethod
    def forward(ctx: Any, log_probs_btk: Tensor, classes_bn: Tensor, slots_b: Tensor, length_b: Tensor) -> Tensor:
        log_probs_tbk = log_probs_btk.transpose(0, 1).contiguous()
        slots, lengths = slots_b.tolist(), length_b.tolist()
        nll_b, log_alpha = torch._ctc_loss(log_probs_tbk, classes_bn, slots, lengths, 0, False)
        ctx.save_for_backward(log_probs_tbk, classes_bn, nll_b, log_alpha)
        ctx.lengths = (slots, lengths)
        return nll_b

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        log_probs_tbk, classes_bn, nll_b, log_alpha = ctx.saved_tensors
        slots, lengths = ctx.lengths
        # sentences without an alignment have a gradient of zero: whether that is right is for the caller to say
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
