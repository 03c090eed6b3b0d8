"""Pre-training of BANG on text with masked spans (Qi et al. 2021); several streams predict each masked token.

Shape letters: b batch, s source position, t target position, m masked tokens of a text, p slots, d width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import BangPretraining
from retort.data.batches import Batch
from retort.losses.bang_spans import Masked, corrupt, diagonals, random_spans, span_length
from retort.losses.base import MIN_WEIGHT, Loss
from retort.losses.cross_entropy import linear_cross_entropy
from retort.losses.teacher_forcing import shifted_right
from retort.models.bang import BangModel
from retort.objectives.base import Step


def compute(model: BangModel, batch: Batch, options: BangPretraining, step: Step) -> Loss:
    """Mean cross entropy per slot; all streams have equal weight.

    The batch's source is its target. It is corrupted here, differently in each epoch. The parts are means over three
    kinds of slots. ``nll``: the first stream, which predicts left to right. ``parallel``: slots that see no token of
    their span, except those of the first stream. ``between``: all others.
    """
    masked, source_bs = _corrupted(model, batch, options=options, step=step)
    smoothing = options.label_smoothing if model.training else 0.0
    return _loss(model, batch, source_bs=source_bs, masked=masked, options=options, smoothing=smoothing)


@torch.no_grad()
def encoder_gap(model: BangModel, batch: Batch, options: BangPretraining, step: Step) -> Tensor:
    """Nats per slot that all streams lose where the encoder reads the batch's next text instead."""
    masked, source_bs = _corrupted(model, batch, options=options, step=step)
    own, other = (
        _loss(model, batch, source_bs=x_bs, masked=masked, options=options, smoothing=0.0).total
        for x_bs in (source_bs, source_bs.roll(1, 0))
    )
    return other - own


def _corrupted(model: BangModel, batch: Batch, options: BangPretraining, step: Step) -> tuple[Masked, Tensor]:
    """Masked tokens of the batch, and the encoder's input."""
    masked = random_spans(batch.target_bt, options, step.generator)
    size = len(model.embeddings.source)
    return masked, corrupt(batch.target_bt, masked, vocabulary_size=size, generator=step.generator)


def _loss(
    model: BangModel, batch: Batch, source_bs: Tensor, masked: Masked, options: BangPretraining, smoothing: float
) -> Loss:
    tokens_bt = batch.target_bt
    weight_vd = model.embeddings.output
    slots, present_bp, index_p, offset_p, stream_p = diagonals(masked, span_length(options, options.span_block))
    before_bm = shifted_right(tokens_bt).gather(1, masked.place_bm)
    states_bpd = model.predict(before_bm, slots, *model.encode(source_bs))
    target_bp = tokens_bt.gather(1, masked.place_bm)[:, index_p]
    first_p = stream_p == 0
    unseen_p = stream_p == offset_p
    kinds = {"nll": first_p, "parallel": unseen_p & ~first_p, "between": ~unseen_p & ~first_p}
    total = torch.zeros((), device=model.device)
    parts: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}
    for name, kind_p in kinds.items():
        chosen_bp = present_bp & kind_p
        loss, plain = linear_cross_entropy(
            states_bpd[chosen_bp], weight_vd, target_bp[chosen_bp], label_smoothing=smoothing
        )
        total = total + loss
        counts[name] = chosen_bp.sum().clamp(min=MIN_WEIGHT)
        parts[name] = plain / counts[name]
    count = present_bp.sum().clamp(min=MIN_WEIGHT)
    return Loss(total / count, parts, count, counts)
