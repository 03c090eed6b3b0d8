"""Probability that neighbouring slots hold the same token, without keeping their distributions over the vocabulary.

The forward pass projects chunk by chunk and keeps one number per slot; the backward pass projects again.

Shape letters: b batch, c sentences of a chunk, t slot, d width, v vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from retort.losses.token_log_probs import chunked_gradients, sentence_chunks
from retort.models.kernels import linear


def repeat_probs(states_btd: Tensor, weight_vd: Tensor, blank: int) -> Tensor:
    """Probability that a slot and the one before it hold the same token, no blank: float32 [b, t], 0 in the first slot.

    Slots are independent, with the distributions softmax(states weight'). Differentiable.
    """
    return _RepeatProbs.apply(states_btd, weight_vd, blank)  # type: ignore[no-any-return]


class _RepeatProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_btd: Tensor, weight_vd: Tensor, blank: int) -> Tensor:
        b, t, _ = states_btd.shape
        repeats_bt = torch.zeros(b, t, dtype=torch.float32, device=states_btd.device)
        for rows in sentence_chunks(b, t, states_btd.device):
            _, tokens = _distributions(linear(states_btd[rows], weight_vd).float(), blank)
            repeats_bt[rows, 1:] = (tokens[:, 1:] * tokens[:, :-1]).sum(-1)
        ctx.save_for_backward(states_btd, weight_vd)
        ctx.blank = blank
        return repeats_bt

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        states_btd, weight_vd = ctx.saved_tensors
        (gradient_bt,) = gradients

        def of_logits(rows: slice, logits_ctv: Tensor) -> Tensor:
            probs, tokens = _distributions(logits_ctv, ctx.blank)
            gradient = gradient_bt[rows, 1:, None]
            # a slot's own repeat, and that of the slot behind it
            full = functional.pad(gradient * tokens[:, :-1], (0, 0, 1, 0))
            full[:, :-1] += gradient * tokens[:, 1:]
            return probs * (full - (full * probs).sum(-1, keepdim=True))

        return *chunked_gradients(states_btd, weight_vd, of_logits), None


def _distributions(logits: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """Probabilities of all tokens, and the same with 0 for the blank."""
    probs = torch.softmax(logits, -1)
    tokens = probs.clone()
    tokens[..., blank] = 0
    return probs, tokens
