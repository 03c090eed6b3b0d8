"""Graphs of BANG's parallel mode: the encoder, and blocks of slots given the tokens before them.

The decoder is given all tokens so far and keeps nothing between blocks: at the lengths of sentences its time goes into
reading weights, and a few more rows cost next to nothing.

Shape letters: b batch, q rows (tokens, then slots), c columns, the same, u distance buckets, h heads, e head width.
"""

from __future__ import annotations

import numpy as np
import onnx

from retort.export.onnx.embeddings import add_positions, allowed_scores, embedded, sources
from retort.export.onnx.exported import Exported
from retort.export.onnx.graph import FLOAT, INT32, INT64, Form, Graph, array
from retort.export.onnx.layers import after_attention, encoder, keys_values, linear, norm
from retort.models.bang import BUCKETS, BangModel, distance_buckets
from retort.models.kernels import MASKED
from retort.models.layers import DecoderLayer
from retort.runtime.names import DECODER, ENCODER, LENGTHS, LOGITS, MEMORY, SLOTS, TOKENS


def export(model: BangModel, form: Form) -> Exported:
    """The graphs of a model."""
    graphs = {ENCODER: _encoder(model, form), DECODER: _decoder(model, form)}
    return Exported(graphs, {"forbidden": model.forbidden})


def _encoder(model: BangModel, form: Form) -> onnx.ModelProto:
    """Encoder states [b, s, d]."""
    g = Graph(form)
    source, lengths = sources(g)
    x = embedded(g, model, model.embeddings.source, source)
    x = add_positions(g, x, model.embeddings.positions, g.width(source))
    g.output(MEMORY, encoder(g, x, module=model.encoder, lengths=lengths), FLOAT, "b", "m", model.config.d_model)
    return g.model()


def _decoder(model: BangModel, form: Form) -> onnx.ModelProto:
    """Scores [b, t, v] of ``slots`` [1] slots, the same number in each row, that follow bos and the tokens so far."""
    g = Graph(form)
    d = model.config.d_model
    memory, lengths = g.input(MEMORY, FLOAT, "b", "m", d), g.input(LENGTHS, INT32, "b")
    tokens, slots = g.input(TOKENS, INT64, "b", "k"), g.input(SLOTS, INT64, 1)
    known = g.width(tokens)
    given = embedded(g, model, model.embeddings.target, tokens)
    vector = g.constant((array(model.slot_vector) * np.float32(model.embeddings.scale))[None, None])
    rows = g.op("Shape", tokens, start=0, end=1)
    asked = g.op("Expand", vector, g.op("Concat", rows, slots, g.integers(d), axis=0))
    width = g.op("Add", known, slots)
    x = add_positions(g, g.op("Concat", given, asked, axis=1), model.embeddings.positions, width)
    causal = g.op("Trilu", g.op("Expand", g.number(MASKED), g.op("Concat", width, width, axis=0)), g.integers(1))
    buckets = _buckets(g, model, width)
    last = len(model.decoder.layers) - 1
    for i, (layer, pair) in enumerate(zip(model.decoder.layers, keys_values(g, memory, model.decoder), strict=True)):
        x = _attention(g, x, model=model, number=i, causal=causal, buckets=buckets, known=known if i == last else None)
        x = after_attention(g, x, layer=layer, memory=pair, memory_lengths=lengths)
    states = norm(g, x, model.decoder.norm)
    g.output(LOGITS, allowed_scores(g, model, states), FLOAT, "b", "t", "v")
    return g.model()


def _buckets(g: Graph, model: BangModel, width: str) -> str:
    """Bucket [q, c] of how far column c lies behind row q; of those ahead, which nobody sees, any."""
    length = model.config.max_length + 1
    places = np.arange(length)
    distances = np.maximum(places[:, None] - places, 0)
    table = g.constant(array(distance_buckets(length))[distances].astype(np.int32))
    return g.op("Cast", g.rows(g.rows(table, width), width, axis=1), to=INT64)


def _attention(g: Graph, x: str, model: BangModel, number: int, causal: str, buckets: str, known: str | None) -> str:
    """A layer's attention with its residual sum; ``known`` tokens [1] are left out of its rows if given."""
    layer: DecoderLayer = model.decoder.layers[number]
    block, module = layer.attention_block, layer.attention
    d, heads = model.config.d_model, module.heads
    h = norm(g, x, block.norm) if block.is_pre_norm else x
    query, key, value = g.split(linear(g, h, module.input), d, d, d)
    if known is not None:
        end, axis = g.integers(np.iinfo(np.int64).max), g.integers(1)
        x, h, query = (g.op("Slice", value_, known, end, axis) for value_ in (x, h, query))
        causal, buckets = (g.op("Slice", value_, known, end, g.integers(0)) for value_ in (causal, buckets))
    query = g.op("Transpose", g.reshape(query, 0, 0, heads, -1), perm=[0, 2, 1, 3])
    query = g.op("Mul", query, g.number((d // heads) ** -0.5))
    key = g.op("Transpose", g.reshape(key, 0, 0, heads, -1), perm=[0, 2, 3, 1])
    value = g.op("Transpose", g.reshape(value, 0, 0, heads, -1), perm=[0, 2, 1, 3])
    relative = g.reshape(linear(g, h, model.relative[number]), 0, 0, heads, BUCKETS)
    relative = g.op("Transpose", relative, perm=[0, 2, 1, 3])
    # [b, h] of the rows' own, and [q, c] of the buckets
    shape = g.op("Concat", g.op("Shape", relative, start=0, end=2), g.op("Shape", buckets), axis=0)
    bias = g.op("Add", g.op("GatherElements", relative, g.op("Expand", buckets, shape), axis=3), causal)
    weights = g.op("Softmax", g.op("Add", g.op("MatMul", query, key), bias), axis=-1)
    context = g.reshape(g.op("Transpose", g.op("MatMul", weights, value), perm=[0, 2, 1, 3]), 0, 0, -1)
    total = g.op("Add", x, linear(g, context, module.output))
    return total if block.is_pre_norm else norm(g, total, block.norm)
