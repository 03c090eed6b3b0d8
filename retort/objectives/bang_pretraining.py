"""Pre-training of BANG on text with masked spans (Qi et al. 2021), each token of which several streams predict."""

from __future__ import annotations

import torch

from retort.config import BangPretraining
from retort.data.batches import Batch
from retort.losses.base import Loss, Step
from retort.losses.cross_entropy import linear_cross_entropy
from retort.losses.masked_spans import corrupt, diagonals, random_spans, span_length
from retort.losses.next_token import shifted_right
from retort.models.bang import BangModel


def compute(model: BangModel, batch: Batch, options: BangPretraining, step: Step) -> Loss:
    """Mean over the slots of all streams, each as important as the others.

    The batch's source is its target, and is corrupted here, differently in each epoch. ``nll`` is that of the first
    stream, which predicts from left to right; ``parallel`` that of the slots of which nothing of the span is known, but
    for the first ones, which are of the first stream too; ``between`` that of all others.
    """
    tokens_bt, weight_vd = batch.target_bt, model.embeddings.output
    masked = random_spans(tokens_bt, options, step.generator)
    source_bs = corrupt(tokens_bt, masked, len(model.embeddings.source), step.generator)
    slots, present_bp, index_p, offset_p, stream_p = diagonals(masked, span_length(options, options.span_block))
    before_bm = shifted_right(tokens_bt).gather(1, masked.place_bm)
    states_bpd = model.predict(before_bm, slots, *model.encode(source_bs))
    target_bp = tokens_bt.gather(1, masked.place_bm)[:, index_p]
    smoothing = options.label_smoothing if model.training else 0.0
    first_p, whole_p = stream_p == 0, stream_p == offset_p
    kinds = {"nll": first_p, "parallel": whole_p & ~first_p, "between": ~whole_p & ~first_p}
    total, parts = torch.zeros((), device=model.device), {}
    for name, kind_p in kinds.items():
        chosen_bp = present_bp & kind_p
        loss, plain = linear_cross_entropy(states_bpd[chosen_bp], weight_vd, target_bp[chosen_bp], smoothing)
        total, parts[name] = total + loss, plain / chosen_bp.sum().clamp(min=1)
    return Loss(total / present_bp.sum().clamp(min=1), parts)
