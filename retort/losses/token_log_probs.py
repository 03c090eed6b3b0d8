"""Log-probabilities of a few tokens in every slot, without keeping the logits of the whole vocabulary.

Alignment losses (CTC and its relatives) need, in each slot, only the probabilities of the target's tokens. The forward
pass projects chunk by chunk and keeps these entries; the backward pass projects again.

Shape letters: b batch, c sentences of a chunk, t slot, d width, v vocabulary, k chosen tokens of a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from retort.losses.chunked_projection import softmax_and_normaliser
from retort.models.kernels import chunk_size, linear


class _TokenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_btd: Tensor, weight_vd: Tensor, tokens_bk: Tensor) -> Tensor:
        b, t, d = states_btd.shape
        gathered_btk = torch.empty(b, t, tokens_bk.shape[1], dtype=torch.float32, device=states_btd.device)
        for rows in sentence_chunks(b, t, states_btd.device):
            logits = linear(states_btd[rows], weight_vd).float()
            _, normaliser_bt = softmax_and_normaliser(logits)
            gathered_btk[rows] = logits.gather(2, _spread(tokens_bk[rows], t)) - normaliser_bt[:, :, None]
        ctx.save_for_backward(states_btd, weight_vd, tokens_bk)
        return gathered_btk

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        states_btd, weight_vd, tokens_bk = ctx.saved_tensors
        (gradient_btk,) = gradients

        def of_logits(rows: slice, logits_ctv: Tensor) -> Tensor:
            full_ctv = torch.softmax(logits_ctv, -1).mul_(-gradient_btk[rows].sum(-1, keepdim=True))
            return full_ctv.scatter_add_(2, _spread(tokens_bk[rows], logits_ctv.shape[1]), gradient_btk[rows])

        return *chunked_gradients(states_btd, weight_vd, of_logits), None


def sentence_chunks(b: int, t: int, device: torch.device) -> list[slice]:
    """Sentences of ``t`` slots whose scores over the vocabulary are computed at once."""
    size = max(1, chunk_size(device) // t)
    return [slice(start, start + size) for start in range(0, b, size)]


def chunked_gradients(
    states_btd: Tensor, weight_vd: Tensor, of_logits: Callable[[slice, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The gradients of states and projection. ``of_logits``: from a slice of the sentences and their logits [c, t, v]
    the gradient of these [c, t, v], float32."""
    b, t, d = states_btd.shape
    states_gradient = torch.empty_like(states_btd)
    weight_gradient = torch.zeros(weight_vd.shape, dtype=torch.float32, device=weight_vd.device)
    weight_dv = weight_vd.t().contiguous()
    for rows in sentence_chunks(b, t, states_btd.device):
        states_ctd = states_btd[rows]
        gradient_ctv = of_logits(rows, linear(states_ctd, weight_vd).float()).to(weight_vd.dtype)
        states_gradient[rows] = linear(gradient_ctv, weight_dv)
        weight_gradient += linear(gradient_ctv.flatten(0, 1).t(), states_ctd.reshape(-1, d).t().contiguous())
    return states_gradient, weight_gradient.to(weight_vd.dtype)


def _spread(tokens_bk: Tensor, t: int) -> Tensor:
    return tokens_bk[:, None, :].expand(-1, t, -1)


def token_log_probs(states_btd: Tensor, weight_vd: Tensor, tokens_bk: Tensor) -> Tensor:
    """log softmax(states weight') of each sentence's tokens in each of its slots: float32 [b, t, k], differentiable.

    Tokens may repeat within a sentence.
    """
    return _TokenLogProbs.apply(states_btd, weight_vd, tokens_bk)  # type: ignore[no-any-return]


def uniform_log_probs(states_btd: Tensor, weight_vd: Tensor, tokens_bk: Tensor, log_probs_btk: Tensor) -> Tensor:
    """Mean over the vocabulary of log softmax(states weight'): float32 [b, t], differentiable.

    ``log_probs`` are the ``token_log_probs`` of ``tokens``; the normaliser is derived from the first token's.
    """
    direction_bd = weight_vd.float().mean(0) - weight_vd[tokens_bk[:, 0]].float()
    return log_probs_btk[:, :, 0] + torch.einsum("btd,bd->bt", states_btd.float(), direction_bd)
