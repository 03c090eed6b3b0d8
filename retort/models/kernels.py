"""Fast primitives: dropout, attention, linear maps and embeddings with kernels that are cheap on a CPU.

Shape letters: b batch, t target position, s source position, d model width, h heads, e head width, n = b * h.

Reasons for not using torch's kernels, measured on one thread of an AVX-512 CPU in bfloat16:
- ``torch.dropout`` draws its bits serially and takes as long as a matrix product;
- ``scaled_dot_product_attention`` is several times slower than bmm-softmax-bmm on sentences of about 20 tokens;
- softmax over a short bfloat16 row is slower than over the same row in float32;
- an embedding's gradient summed in bfloat16 loses the contributions to frequent words.
On CUDA torch's kernels are used.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

CHUNK = 512
"""Positions per chunk: the largest whose float32 logits over a few thousand pieces stay in a processor's cache."""
CUDA_CHUNK = 8192

MASKED = -1e9
"""Bias on the attention scores of hidden positions; finite, so that no row becomes NaN."""

_MALLOC_TRIM_THRESHOLD, _MALLOC_TOP_PAD, _MALLOC_MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h


def keep_pages() -> None:
    """Make glibc's allocator keep freed memory, so that temporaries do not page-fault at each step (Linux only)."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MALLOC_MMAP_THRESHOLD, 32 << 20)  # the largest that glibc takes
        mallopt(_MALLOC_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_MALLOC_TOP_PAD, 64 << 20)


class _DropoutBits:
    """Random bits for dropout on a CPU, re-seeded for every batch, so that checkpoints need not save their state."""

    def __init__(self) -> None:
        self.reseed(0)

    def reseed(self, *key: int) -> None:
        self._generator = np.random.SFC64(np.random.SeedSequence(key))

    @property
    def state(self) -> Any:
        return self._generator.state

    @state.setter
    def state(self, state: Any) -> None:
        self._generator.state = state

    def keep_mask(self, shape: torch.Size, keep: int) -> Tensor:
        """int16 tensor: an entry has all bits set with probability keep / 32768, else none."""
        size = math.prod(shape)
        words = torch.from_numpy(self._generator.random_raw(size // 4 + 1)).view(torch.int16)[:size].view(shape)
        # 15 random bits below `keep` give a negative difference, whose sign fills the word
        return words.bitwise_and_(32767).sub_(keep).bitwise_right_shift_(15)


_bits = _DropoutBits()


def reseed_dropout(*key: int) -> None:
    """Seed this process's dropout with ``key`` (non-negative integers)."""
    _bits.reseed(*key)


@contextmanager
def rewound_dropout(device: torch.device) -> Iterator[None]:
    """Rewind this device's dropout after the block, so that the same masks are drawn again."""
    state = _bits.state
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
    _bits.state = state


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, probability: float) -> Tensor:
        keep = max(1, round((1 - probability) * 32768))
        mask = _bits.keep_mask(x.shape, keep)
        if x.element_size() == 4:
            mask = mask.to(torch.int32)
        ctx.save_for_backward(mask)
        ctx.scale = 32768 / keep
        return x.contiguous().view(mask.dtype).bitwise_and(mask).view(x.dtype).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        gradient = gradients[0]
        return gradient.contiguous().view(mask.dtype).bitwise_and(mask).view(gradient.dtype).mul_(ctx.scale), None


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Inverted dropout of any float tensor; the probability is exact to 1/32768 on a CPU."""
    if not training or probability == 0.0:
        return x
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16):
        return functional.dropout(x, probability)
    return _Dropout.apply(x, probability)  # type: ignore[no-any-return]


class _Attend(torch.autograd.Function):
    """softmax(q k' + bias) v with a float32 softmax and no kernels that are slow on short rows."""

    @staticmethod
    def forward(ctx: Any, query_nte: Tensor, key_nse: Tensor, value_nse: Tensor, bias: Tensor) -> Tensor:
        scores_nts = torch.baddbmm(bias, query_nte, key_nse.transpose(1, 2))
        weights_nts = torch.softmax(scores_nts.float(), -1).to(scores_nts.dtype)
        ctx.save_for_backward(query_nte, key_nse, value_nse, weights_nts)
        ctx.bias_shape = bias.shape
        return torch.bmm(weights_nts, value_nse)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        query_nte, key_nse, value_nse, weights_nts = ctx.saved_tensors
        (gradient_nte,) = gradients
        value_gradient = torch.bmm(weights_nts.transpose(1, 2), gradient_nte)
        scores_gradient = torch.bmm(gradient_nte, value_nse.transpose(1, 2)).mul_(weights_nts)
        scores_gradient = scores_gradient - weights_nts * scores_gradient.sum(-1, keepdim=True)
        query_gradient = torch.bmm(scores_gradient, key_nse)
        key_gradient = torch.bmm(scores_gradient.transpose(1, 2), query_nte)
        bias_gradient = scores_gradient.sum_to_size(ctx.bias_shape) if ctx.needs_input_grad[3] else None
        return query_gradient, key_gradient, value_gradient, bias_gradient


def attend(
    query_nte: Tensor,
    key_nse: Tensor,
    value_nse: Tensor,
    bias: Tensor,
    probability: float = 0.0,
    training: bool = False,
) -> Tensor:
    """Scaled dot-product attention.

    ``bias`` is added to the scores and broadcasts to [n, t, s]; ``probability`` is the dropout of the weights.
    Returns [n, t, e].
    """
    query_nte = query_nte * query_nte.shape[-1] ** -0.5
    if training and probability > 0.0:
        scores_nts = torch.baddbmm(bias, query_nte, key_nse.transpose(1, 2))
        weights_nts = torch.softmax(scores_nts.float(), -1).to(scores_nts.dtype)
        return torch.bmm(dropout(weights_nts, probability, training), value_nse)
    if query_nte.device.type != "cpu":
        return fused_attention(query_nte, key_nse, value_nse=value_nse, bias=bias)
    return _Attend.apply(query_nte, key_nse, value_nse, bias)  # type: ignore[no-any-return]


def fused_attention(query_nte: Tensor, key_nse: Tensor, value_nse: Tensor, bias: Tensor) -> Tensor:
    """softmax(q k' + bias) v by torch's kernel [n, t, e]. Its fused forms take four dimensions: here, one head each."""
    query, key, value, mask = (x[:, None] for x in (query_nte, key_nse, value_nse, bias))
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)[:, 0]


ONEDNN_FROM = 1 << 21
"""Multiplications from which oneDNN's product outweighs its higher call overhead."""

_onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


class Linear(nn.Linear):
    """Affine map; see ``linear``."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight' + bias [..., rows of ``weight``].

    Large float32 products without gradients on a CPU use oneDNN if torch has it: MKL, torch's default, uses half of an
    AMD processor's vector width.
    """
    small = x.numel() * weight.shape[0] < ONEDNN_FROM
    if small or torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.float32 or _onednn is None:
        return functional.linear(x, weight, bias)
    return _onednn(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]


class _Embed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight_vd: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape = weight_vd.shape
        return functional.embedding(ids, weight_vd)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        (ids,) = ctx.saved_tensors
        (gradient,) = gradients
        total_vd = torch.zeros(ctx.shape, dtype=torch.float32, device=gradient.device)
        total_vd.index_add_(0, ids.reshape(-1), gradient.reshape(-1, ctx.shape[1]).float())
        return None, total_vd.to(gradient.dtype)


def embed(ids: Tensor, weight_vd: Tensor) -> Tensor:
    """Rows of ``weight_vd`` at ``ids``: [..., d]; the gradient is summed in float32 in any precision."""
    return _Embed.apply(ids, weight_vd)  # type: ignore[no-any-return]


class _GatherLast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.shape = x.shape
        return x.gather(-1, index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        (gradient,) = gradients
        total = torch.zeros(ctx.shape, dtype=torch.float32, device=gradient.device)
        return total.scatter_add_(-1, index, gradient.float()).to(gradient.dtype), None


def gather_last(x: Tensor, index: Tensor) -> Tensor:
    """``x.gather(-1, index)``; the gradient is summed in float32 in any precision."""
    return _GatherLast.apply(x, index)  # type: ignore[no-any-return]


def chunk_size(device: torch.device) -> int:
    """Positions whose scores over the vocabulary are computed at once."""
    return CHUNK if device.type == "cpu" else CUDA_CHUNK


@torch.no_grad()
def most_probable(states: Tensor, weight_vd: Tensor) -> Tensor:
    """Ids [...] of the rows of ``weight_vd`` with the largest product with each state [..., d].

    The scores are computed chunk by chunk and not kept.
    """
    parts = states.flatten(0, -2).split(chunk_size(states.device))
    rows = [linear(part, weight_vd).argmax(-1) for part in parts]
    return torch.cat(rows).view(states.shape[:-1])
