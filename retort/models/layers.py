"""Encoder and decoder of the Transformer (Vaswani et al. 2017), shared by every model family.

Shape letters: b batch, t target position, s source position, d model width, h heads, e head width, n = b * h.
Padding is handled by an additive bias on attention scores; padded rows are computed and ignored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from retort.config import Model
from retort.data.batches import LENGTH_STEP, round_up
from retort.data.vocabulary import PAD
from retort.models.kernels import MASKED, Linear, attend, dropout, embed, linear


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself."""

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
        """Attention output [b, t, d]."""
        context_nte = attend(query_nte, key_nse, value_nse, bias, self.probability, self.training)
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
        """Keys and values of the memory, each [n, s, e]; computed once a sentence."""
        b, s, d = memory_bsd.shape
        packed = self.memory(memory_bsd).view(b, s, 2, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        key, value = packed.reshape(2, b * self.heads, s, d // self.heads).unbind(0)
        return key, value

    def forward(self, x_btd: Tensor, keys_values: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        """Attention output [b, t, d]."""
        b, t, d = x_btd.shape
        query_nte = self.query(x_btd).view(b, t, self.heads, -1).transpose(1, 2).reshape(b * self.heads, t, -1)
        context_nte = attend(query_nte, *keys_values, bias, self.probability, self.training)
        return self.output(_merge_heads(context_nte, self.heads))


def _merge_heads(context_nte: Tensor, heads: int) -> Tensor:
    n, t, e = context_nte.shape
    return context_nte.view(n // heads, heads, t, e).transpose(1, 2).reshape(n // heads, t, heads * e)


class FeedForward(nn.Module):
    """Two-layer position-wise network."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.inner, self.outer = Linear(config.d_model, config.ffn), Linear(config.ffn, config.d_model)
        self.probability = config.dropout
        self.activation = functional.relu if config.activation == "relu" else functional.gelu

    def forward(self, x_btd: Tensor) -> Tensor:
        return self.outer(dropout(self.activation(self.inner(x_btd)), self.probability, self.training))


class Block(nn.Module):
    """Residual wiring of a sub-layer: norm before it (pre) or after the sum (post)."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model)
        self.pre, self.probability = config.norm == "pre", config.dropout

    def enter(self, x_btd: Tensor) -> Tensor:
        return self.norm(x_btd) if self.pre else x_btd

    def leave(self, x_btd: Tensor, y_btd: Tensor) -> Tensor:
        total_btd = x_btd + dropout(y_btd, self.probability, self.training)
        return total_btd if self.pre else self.norm(total_btd)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.attention, self.attention_block = SelfAttention(config), Block(config)
        self.feed_forward, self.feed_forward_block = FeedForward(config), Block(config)

    def forward(self, x_bsd: Tensor, bias: Tensor) -> Tensor:
        x_bsd = self.attention_block.leave(x_bsd, self.attention(self.attention_block.enter(x_bsd), bias))
        return self.feed_forward_block.leave(x_bsd, self.feed_forward(self.feed_forward_block.enter(x_bsd)))


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward; causal or not by the bias it is given."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.attention, self.attention_block = SelfAttention(config), Block(config)
        self.cross_attention, self.cross_block = CrossAttention(config), Block(config)
        self.feed_forward, self.feed_forward_block = FeedForward(config), Block(config)

    def forward(self, x_btd: Tensor, bias: Tensor, memory: tuple[Tensor, Tensor], memory_bias: Tensor) -> Tensor:
        x_btd = self.attention_block.leave(x_btd, self.attention(self.attention_block.enter(x_btd), bias))
        return self.after_attention(x_btd, memory, memory_bias)

    def after_attention(self, x_btd: Tensor, memory: tuple[Tensor, Tensor], memory_bias: Tensor) -> Tensor:
        """Cross-attention and feed-forward."""
        y_btd = self.cross_attention(self.cross_block.enter(x_btd), memory, memory_bias)
        x_btd = self.cross_block.leave(x_btd, y_btd)
        return self.feed_forward_block.leave(x_btd, self.feed_forward(self.feed_forward_block.enter(x_btd)))


class Embeddings(nn.Module):
    """Token embeddings of both sides, the output projection tied to them as the config says, and positions."""

    def __init__(self, config: Model, source_size: int, target_size: int) -> None:
        super().__init__()
        self.scale = math.sqrt(config.d_model)
        self.source = nn.Parameter(_normal(source_size, config.d_model))
        self.target = self.source if config.tied == "all" else nn.Parameter(_normal(target_size, config.d_model))
        self.output = nn.Parameter(_normal(target_size, config.d_model)) if config.tied == "none" else self.target
        self.positions = Positions(config) if config.family == "transformer" else NoPositions(config)

    def embed_source(self, source_bs: Tensor) -> Tensor:
        return self.positions(embed(source_bs, self.source) * self.scale)

    def embed_target(self, target_bt: Tensor, first: int = 0) -> Tensor:
        return self.positions(embed(target_bt, self.target) * self.scale, first)


class Positions(nn.Module):
    """Position embeddings, added with dropout: for padded sequences of ``slots`` positions a token."""

    def __init__(self, config: Model, slots: int = 1) -> None:
        super().__init__()
        self.probability = config.dropout
        # the longest sequence, too, is padded, and may have a slot before it
        length = (round_up(config.max_length, LENGTH_STEP) + 1) * slots
        if config.positions == "learned":
            self.table = nn.Parameter(torch.randn(length, config.d_model) * 0.02)
        else:
            self.register_buffer("table", _sinusoids(length, config.d_model), persistent=False)

    def forward(self, x_btd: Tensor, first: int | Tensor = 0) -> Tensor:
        """``x`` plus the embeddings of positions first, first + 1, ..., or of the positions [b, t] that are given."""
        t = x_btd.shape[1]
        positions = embed(first, self.table) if isinstance(first, Tensor) else self.table[first : first + t]
        return dropout(x_btd + positions.to(x_btd.dtype), self.probability, self.training)


class NoPositions(nn.Module):
    """Dropout alone, for a recurrent model."""

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.probability = config.dropout

    def forward(self, x_btd: Tensor, first: int = 0) -> Tensor:
        return dropout(x_btd, self.probability, self.training)


def _normal(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns) * columns**-0.5


def _sinusoids(length: int, width: int) -> Tensor:
    """Section 3.5 of Vaswani et al. 2017."""
    angles = torch.arange(length)[:, None] * 10000 ** (-torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], -1).view(length, width)


class Encoder(nn.Module):
    """Stack of encoder layers with a final norm when pre-norm."""

    layers: Sequence[EncoderLayer]

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))  # type: ignore[assignment]
        self.norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()

    def forward(self, x_bsd: Tensor, bias: Tensor) -> Tensor:
        for layer in self.layers:
            x_bsd = layer(x_bsd, bias)
        return self.norm(x_bsd)


class Decoder(nn.Module):
    """Stack of decoder layers with a final norm when pre-norm."""

    layers: Sequence[DecoderLayer]

    def __init__(self, config: Model) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))  # type: ignore[assignment]
        self.norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()

    def forward(self, x_btd: Tensor, bias: Tensor, memory_bsd: Tensor, memory_bias: Tensor) -> Tensor:
        for layer in self.layers:
            x_btd = layer(x_btd, bias, layer.cross_attention.keys_values(memory_bsd), memory_bias)
        return self.norm(x_btd)


def padding_bias(padded_bs: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
    """Bias [n, 1, s] that hides padded keys, from a boolean mask that is true where there is padding."""
    bias_bs = torch.zeros(padded_bs.shape, dtype=dtype, device=padded_bs.device).masked_fill_(padded_bs, MASKED)
    return bias_bs[:, None, None, :].expand(-1, heads, 1, -1).reshape(-1, 1, padded_bs.shape[1])


def causal_bias(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Bias [1, t, t] that hides later positions."""
    return torch.full((length, length), MASKED, dtype=dtype, device=device).triu_(1)[None]


class EncoderDecoder(nn.Module):
    """What every model shares: embeddings and the output projection. ``family`` names the subclass in errors."""

    family = ""
    own_weights: tuple[str, ...] = ()
    """Beginnings of the names of parameters that no other family has; a pre-trained model hands them on."""
    teaches = False
    """Whether it scores candidates and labels training text: next-token probabilities of a Transformer."""

    def __init__(self, config: Model, source_size: int, target_size: int) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config, source_size, target_size)

    @property
    def dtype(self) -> torch.dtype:
        return self.embeddings.source.dtype

    @property
    def device(self) -> torch.device:
        return self.embeddings.source.device

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the target vocabulary, in the model's precision."""
        return linear(hidden, self.embeddings.output)


class Transformer(EncoderDecoder):
    """Encoder and decoder of the Transformer."""

    def __init__(self, config: Model, source_size: int, target_size: int) -> None:
        super().__init__(config, source_size, target_size)
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def encode(self, source_bs: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder output [b, s, d] and the bias [n, 1, s] that hides its padding."""
        bias = padding_bias(source_bs == PAD, self.config.heads, self.dtype)
        return self.encoder(self.embeddings.embed_source(source_bs), bias), bias
