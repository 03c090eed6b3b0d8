"""Layers of the Transformer (Vaswani et al. 2017): attention, feed-forward, residual blocks, encoder, decoder.

Shape letters: b batch, t target position, s source position, d model width, f feed-forward width, h heads,
e head width, n = b * h.
Padding is handled by an additive bias on attention scores; padded rows are computed and ignored.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from retort.config import Model
from retort.models.kernels import MASKED, Linear, attend, dropout


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself (Vaswani et al. 2017, section 3.2.2)."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.heads, self.probability = config.heads, config.attention_dropout
        self.input = Linear(config.d_model, 3 * config.d_model)
        self.output = Linear(config.d_model, config.d_model)

    def forward(self, x_btd: Tensor, bias: Tensor) -> Tensor:
        """Attention output [b, t, d]; ``bias`` broadcasts to [n, t, t]."""
        return self.attend(*self.project(x_btd), bias)

    def project(self, x_btd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value, each [n, t, e]."""
        b, t, d = x_btd.shape
        packed = self.input(x_btd).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = packed.reshape(3, b * self.heads, t, d // self.heads).unbind(0)
        return query, key, value

    def attend(self, query_nte: Tensor, key_nse: Tensor, value_nse: Tensor, bias: Tensor) -> Tensor:
        """Attention output [b, t, d]; ``bias`` broadcasts to [n, t, s]."""
        context_nte = attend(
            query_nte, key_nse, value_nse=value_nse, bias=bias, probability=self.probability, training=self.training
        )
        return self.output(_merge_heads(context_nte, self.heads))


class CrossAttention(nn.Module):
    """Multi-head attention of the decoder to the encoder's output."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.heads, self.probability = config.heads, config.attention_dropout
        self.query = Linear(config.d_model, config.d_model)
        self.memory = Linear(config.d_model, 2 * config.d_model)
        self.output = Linear(config.d_model, config.d_model)

    def keys_values(self, memory_bsd: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the memory, each [n, s, e]; a search computes them once per sentence."""
        b, s, d = memory_bsd.shape
        packed = self.memory(memory_bsd).view(b, s, 2, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        key, value = packed.reshape(2, b * self.heads, s, d // self.heads).unbind(0)
        return key, value

    def forward(self, x_btd: Tensor, keys_values: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        """Attention output [b, t, d]; ``bias`` broadcasts to [n, t, s]."""
        b, t, d = x_btd.shape
        query_nte = self.query(x_btd).view(b, t, self.heads, -1).transpose(1, 2).reshape(b * self.heads, t, -1)
        context_nte = attend(query_nte, *keys_values, bias, self.probability, self.training)
        return self.output(_merge_heads(context_nte, self.heads))


def _merge_heads(context_nte: Tensor, heads: int) -> Tensor:
    n, t, e = context_nte.shape
    return context_nte.view(n // heads, heads, t, e).transpose(1, 2).reshape(n // heads, t, heads * e)


class FeedForward(nn.Module):
    """Two-layer position-wise network (Vaswani et al. 2017, section 3.3)."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.inner = Linear(config.d_model, config.ffn)
        self.outer = Linear(config.ffn, config.d_model)
        self.probability = config.dropout
        self.activation = functional.relu if config.activation == "relu" else functional.gelu

    def forward(self, x_btd: Tensor) -> Tensor:
        """Output [b, t, d]."""
        hidden_btf = self.activation(self.inner(x_btd))
        return self.outer(dropout(hidden_btf, self.probability, self.training))


class ResidualBlock(nn.Module):
    """Residual connection around a sub-layer, normalised before it (pre-norm) or after the sum (post-norm).

    Source: Vaswani et al. 2017, section 3.1 (post-norm); Xiong et al. 2020 (pre-norm).
    """

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model)
        self.is_pre_norm = config.norm == "pre"
        self.probability = config.dropout

    def pre_norm(self, x_btd: Tensor) -> Tensor:
        """Input of the sub-layer [b, t, d]: normalised in a pre-norm block, else ``x_btd`` itself."""
        return self.norm(x_btd) if self.is_pre_norm else x_btd

    def residual(self, x_btd: Tensor, y_btd: Tensor) -> Tensor:
        """Output of the block [b, t, d]: x + dropout(y), normalised in a post-norm block; ``y_btd`` is the sub-layer's
        output."""
        total_btd = x_btd + dropout(y_btd, self.probability, self.training)
        return total_btd if self.is_pre_norm else self.norm(total_btd)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_block = ResidualBlock(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_block = ResidualBlock(config)

    def forward(self, x_bsd: Tensor, bias: Tensor) -> Tensor:
        """Output of the layer [b, s, d]; ``bias`` broadcasts to [n, s, s]."""
        y_bsd = self.attention(self.attention_block.pre_norm(x_bsd), bias)
        x_bsd = self.attention_block.residual(x_bsd, y_bsd)
        y_bsd = self.feed_forward(self.feed_forward_block.pre_norm(x_bsd))
        return self.feed_forward_block.residual(x_bsd, y_bsd)


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward; the bias decides whether the layer is causal."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_block = ResidualBlock(config)
        self.cross_attention = CrossAttention(config)
        self.cross_block = ResidualBlock(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_block = ResidualBlock(config)

    def forward(self, x_btd: Tensor, bias: Tensor, memory: tuple[Tensor, Tensor], memory_bias: Tensor) -> Tensor:
        """Output of the layer [b, t, d]; ``bias`` broadcasts to [n, t, t], ``memory_bias`` to [n, t, s]."""
        y_btd = self.attention(self.attention_block.pre_norm(x_btd), bias)
        x_btd = self.attention_block.residual(x_btd, y_btd)
        return self.after_attention(x_btd, memory, memory_bias)

    def after_attention(self, x_btd: Tensor, memory: tuple[Tensor, Tensor], memory_bias: Tensor) -> Tensor:
        """Output of the layer [b, t, d], from the output of its self-attention: cross-attention and feed-forward."""
        y_btd = self.cross_attention(self.cross_block.pre_norm(x_btd), memory, memory_bias)
        x_btd = self.cross_block.residual(x_btd, y_btd)
        y_btd = self.feed_forward(self.feed_forward_block.pre_norm(x_btd))
        return self.feed_forward_block.residual(x_btd, y_btd)


class Encoder(nn.Module):
    """Stack of encoder layers, with a final norm if they are pre-norm."""

    layers: Sequence[EncoderLayer]

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))  # type: ignore[assignment]
        self.norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()

    def forward(self, x_bsd: Tensor, bias: Tensor) -> Tensor:
        """Encoder output [b, s, d]."""
        for layer in self.layers:
            x_bsd = layer(x_bsd, bias)
        return self.norm(x_bsd)


class Decoder(nn.Module):
    """Stack of decoder layers, with a final norm if they are pre-norm."""

    layers: Sequence[DecoderLayer]

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))  # type: ignore[assignment]
        self.norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()

    def forward(self, x_btd: Tensor, bias: Tensor, memory_bsd: Tensor, memory_bias: Tensor) -> Tensor:
        """Decoder states [b, t, d], given the encoder's output and its bias."""
        for layer in self.layers:
            x_btd = layer(x_btd, bias, layer.cross_attention.keys_values(memory_bsd), memory_bias)
        return self.norm(x_btd)


def padding_bias(padded_bs: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
    """Bias [n, 1, s] that hides padded keys, from a boolean mask that is true at padding."""
    bias_bs = torch.zeros(padded_bs.shape, dtype=dtype, device=padded_bs.device).masked_fill_(padded_bs, MASKED)
    return bias_bs[:, None, None, :].expand(-1, heads, 1, -1).reshape(-1, 1, padded_bs.shape[1])


def causal_bias(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Bias [1, t, t] that hides later positions."""
    return torch.full((length, length), MASKED, dtype=dtype, device=device).triu_(1)[None]
