"""Encoder and decoder of the Transformer as nodes of a graph; see ``retort.models.layers`` for the same in torch.

Shape letters: b batch, t target position, s source position, d model width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from torch import nn

from retort.export.onnx.graph import CONTRIBUTED, INT32, Graph, array
from retort.models.kernels import MASKED
from retort.models.layers import (
    CrossAttention,
    Decoder,
    DecoderLayer,
    Encoder,
    FeedForward,
    ResidualBlock,
    SelfAttention,
)


def inside(g: Graph, width: str, lengths: str) -> str:
    """Boolean [b, t]: the places below each row's length."""
    zero, one = (g.constant(np.array(i, np.int32)) for i in (0, 1))
    place = g.op("Range", zero, g.op("Cast", g.op("Squeeze", width), to=INT32), one)
    return g.op("Less", place, g.op("Unsqueeze", lengths, g.integers(1)))


def linear(g: Graph, x: str, layer: nn.Module) -> str:
    """Affine map."""
    assert isinstance(layer, nn.Linear)
    return g.product(x, array(layer.weight), None if layer.bias is None else array(layer.bias))


def norm(g: Graph, x: str, layer: nn.Module) -> str:
    """Layer norm; post-norm stacks end without one."""
    if not isinstance(layer, nn.LayerNorm):
        return x
    weight, bias = g.constant(array(layer.weight)), g.constant(array(layer.bias))
    return g.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=float(layer.eps))


def residual(g: Graph, x: str, block: ResidualBlock, inner: Callable[[str], str]) -> str:
    """A sub-layer with its residual sum, norm before it or after the sum."""
    y = inner(norm(g, x, block.norm) if block.is_pre_norm else x)
    total = g.op("Add", x, y)
    return total if block.is_pre_norm else norm(g, total, block.norm)


def attention(g: Graph, query: str, key: str, value: str, heads: int, lengths: str) -> str:
    """Attention [b, t, d] to the first ``lengths`` [b] keys of each row."""
    return g.op(
        "MultiHeadAttention",
        query,
        key,
        value,
        "",
        lengths,
        domain=CONTRIBUTED,
        num_heads=heads,
        mask_filter_value=MASKED,
    )


def self_attention(g: Graph, module: SelfAttention, lengths: str, x: str) -> str:
    """Attention of a sequence to itself."""
    width = module.output.out_features
    query, key, value = g.split(linear(g, x, module.input), width, width, width)
    return linear(g, attention(g, query, key=key, value=value, heads=module.heads, lengths=lengths), module.output)


def cross_attention(g: Graph, module: CrossAttention, memory: tuple[str, str], lengths: str, x: str) -> str:
    """Attention to the encoder's keys and values."""
    query = linear(g, x, module.query)
    return linear(g, attention(g, query, *memory, module.heads, lengths), module.output)


def feed_forward(g: Graph, module: FeedForward, x: str) -> str:
    """Two-layer network of each position."""
    y = linear(g, x, module.inner)
    activation = "Relu" if module.activation is nn.functional.relu else "Gelu"
    return linear(g, g.op(activation, y), module.outer)


def encoder(g: Graph, x: str, module: Encoder, lengths: str) -> str:
    """Encoder states [b, s, d] of embedded sources."""
    for layer in module.layers:
        x = residual(g, x, block=layer.attention_block, inner=partial(self_attention, g, layer.attention, lengths))
        x = residual(g, x, block=layer.feed_forward_block, inner=partial(feed_forward, g, layer.feed_forward))
    return norm(g, x, module.norm)


def keys_values(g: Graph, memory: str, module: Decoder) -> list[tuple[str, str]]:
    """Keys and values of the encoder's states for each layer: one product for all of them reads the states once."""
    layers = [layer.cross_attention.memory for layer in module.layers]
    weight = np.concatenate([array(layer.weight) for layer in layers])
    bias = np.concatenate([array(layer.bias) for layer in layers])
    width = layers[0].in_features
    parts = g.split(g.product(memory, weight, bias), *[width] * (2 * len(layers)))
    return list(zip(parts[::2], parts[1::2], strict=True))


def decoder_layer(
    g: Graph, x: str, layer: DecoderLayer, lengths: str, memory: tuple[str, str], memory_lengths: str
) -> str:
    """One layer where all of a row's first ``lengths`` [b] slots see each other."""
    x = residual(g, x, block=layer.attention_block, inner=partial(self_attention, g, layer.attention, lengths))
    return after_attention(g, x, layer=layer, memory=memory, memory_lengths=memory_lengths)


def after_attention(g: Graph, x: str, layer: DecoderLayer, memory: tuple[str, str], memory_lengths: str) -> str:
    """Cross-attention and feed-forward of a layer."""
    cross = layer.cross_attention
    x = residual(g, x, block=layer.cross_block, inner=partial(cross_attention, g, cross, memory, memory_lengths))
    return residual(g, x, block=layer.feed_forward_block, inner=partial(feed_forward, g, layer.feed_forward))


def decoder(g: Graph, x: str, module: Decoder, lengths: str, memory: str, memory_lengths: str) -> str:
    """Decoder states [b, t, d]; see ``decoder_layer``."""
    for layer, pair in zip(module.layers, keys_values(g, memory, module), strict=True):
        x = decoder_layer(g, x, layer=layer, lengths=lengths, memory=pair, memory_lengths=memory_lengths)
    return norm(g, x, module.norm)
