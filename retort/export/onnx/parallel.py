"""Graphs of the parallel family: upsampled slots in one graph, slots of a predicted length in two.

Outputs are scores over the tokens that a search may choose; choosing is left to ``retort.runtime``.

Shape letters: b batch, t slot, s source position, d width, v tokens, l length class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from retort.data.upsampling import Upsampling
from retort.export.onnx.embeddings import add_positions, allowed_scores, embedded, sources
from retort.export.onnx.exported import Exported
from retort.export.onnx.graph import FLOAT, INT32, INT64, Form, Graph, array
from retort.export.onnx.layers import decoder, decoder_layer, encoder, inside, keys_values, linear, norm
from retort.models.parallel import LENGTH_RANGE, ParallelModel
from retort.runtime.names import DECODER, ENCODER, LENGTHS, LOGITS, MEMORY, MODEL, SLOTS, TOKENS


def export(model: ParallelModel, form: Form) -> Exported:
    """The graphs of a model."""
    facts: dict[str, Any] = {"forbidden": model.forbidden}
    if model.upsampling:
        return Exported({MODEL: upsampled(model, form)}, facts | {"upsampling": model.upsampling.fact})
    facts |= {
        "length_slot": model.length_slot,
        "length_range": LENGTH_RANGE,
        "length_multiplier": model.length_multiplier,
        "pad_input": model.pad_input,
        "eos_anywhere": model.eos_anywhere,
    }
    return Exported({ENCODER: encoder_with_length(model, form), DECODER: slots(model, form)}, facts)


def upsampled(model: ParallelModel, form: Form) -> onnx.ModelProto:
    """Scores [b, t, v] of the slots of each source token."""
    g = Graph(form)
    source, lengths = sources(g)
    states, _ = upsampled_states(g, model, source=source, lengths=lengths)
    g.output(LOGITS, allowed_scores(g, model, states), FLOAT, "b", "t", "v")
    return g.model()


def encoder_with_length(model: ParallelModel, form: Form) -> onnx.ModelProto:
    """Encoder states [b, s, d] and the scores [b, l] of length classes."""
    g = Graph(form)
    source, lengths = sources(g)
    memory, seen = encode(g, model, source=source, lengths=lengths)
    if model.length_slot:
        summary = g.op("Gather", memory, g.constant(np.array(0, np.int64)), axis=1)
    else:
        summary = mean_state(g, memory, seen)
    # not worth its loss of precision in int8
    weight, bias = g.constant(array(model.length.weight).T), g.constant(array(model.length.bias))
    g.output(MEMORY, memory, FLOAT, "b", "m", model.config.d_model)
    g.output(LOGITS, g.op("Add", g.op("MatMul", summary, weight), bias), FLOAT, "b", model.length.out_features)
    return g.model()


def slots(model: ParallelModel, form: Form) -> onnx.ModelProto:
    """Scores [b, t, v] of slots that hold mask or given tokens, ``slots`` [b] of them in each row."""
    g = Graph(form)
    memory = g.input(MEMORY, FLOAT, "b", "m", model.config.d_model)
    lengths, count, tokens = g.input(LENGTHS, INT32, "b"), g.input(SLOTS, INT32, "b"), g.input(TOKENS, INT64, "b", "t")
    x = embedded(g, model, model.embeddings.target, tokens)
    x = add_positions(g, x, model.embeddings.positions, g.width(tokens))
    states = decoded(g, model, x=x, count=count, memory=memory, lengths=lengths)
    g.output(LOGITS, allowed_scores(g, model, states), FLOAT, "b", "t", "v")
    return g.model()


def encode(g: Graph, model: ParallelModel, source: str, lengths: str) -> tuple[str, str]:
    """Encoder states and how many of each row are no padding: one more than its tokens with a length slot."""
    x = embedded(g, model, model.embeddings.source, source)
    width = g.width(source)
    if model.length_slot:
        # the pads are: nothing at the start of batch, one slot before the source, nothing before the width; then ends
        x = g.op("Pad", x, g.integers(0, 1, 0, 0, 0, 0))
        width = g.op("Add", width, g.integers(1))
        lengths = g.op("Add", lengths, g.constant(np.array(1, np.int32)))
    x = add_positions(g, x, model.embeddings.positions, width)
    return encoder(g, x, module=model.encoder, lengths=lengths), lengths


def mean_state(g: Graph, memory: str, lengths: str) -> str:
    """Mean [b, d] of the states of each row that are no padding."""
    present = g.op("Cast", inside(g, g.width(memory), lengths), to=FLOAT)
    total = g.op("MatMul", g.op("Unsqueeze", present, g.integers(1)), memory)
    count = g.op("Unsqueeze", g.op("Cast", lengths, to=FLOAT), g.integers(1))
    return g.op("Div", g.op("Squeeze", total, g.integers(1)), count)


def upsampled_states(g: Graph, model: ParallelModel, source: str, lengths: str) -> tuple[str, str]:
    """Decoder states [b, t, d] of the slots, and their number [b]."""
    memory, _ = encode(g, model, source=source, lengths=lengths)
    assert model.upsampling is not None
    width = slots_of(g, model.upsampling, g.width(source), np.int64)
    count = slots_of(g, model.upsampling, lengths, np.int32)
    if model.upsampling.is_whole:
        times = model.upsampling.numerator
        repeated = g.op("Concat", *[memory] * times, axis=-1) if times > 1 else memory
        x = g.reshape(repeated, 0, -1, model.config.d_model)
    else:
        tokens = model.upsampling.token(np.arange(len(model.slot_positions.table)))
        x = g.op("Gather", memory, g.rows(g.constant(tokens), width), axis=1)
    x = add_positions(g, x, model.slot_positions, width)
    return decoded(g, model, x=x, count=count, memory=memory, lengths=lengths), count


def slots_of(g: Graph, upsampling: Upsampling, tokens: str, kind: type[np.integer]) -> str:
    """Slots [n] of these numbers [n] of tokens, which are of this type."""
    numerator, most_left, denominator = (
        g.constant(np.array(number, kind))
        for number in (upsampling.numerator, upsampling.denominator - 1, upsampling.denominator)
    )
    slots = g.op("Mul", tokens, numerator)
    return slots if upsampling.is_whole else g.op("Div", g.op("Add", slots, most_left), denominator)


def decoded(g: Graph, model: ParallelModel, x: str, count: str, memory: str, lengths: str) -> str:
    """States [b, t, d] of the last layer; with deep supervision each layer is given what the one before predicts."""
    if not model.deep_supervision:
        return decoder(g, x, module=model.decoder, lengths=count, memory=memory, memory_lengths=lengths)
    states = ""
    for i, (layer, pair) in enumerate(zip(model.decoder.layers, keys_values(g, memory, model.decoder), strict=True)):
        if states:
            predicted = g.op("ArgMax", g.product(states, array(model.embeddings.output)), axis=-1, keepdims=0)
            both = g.op("Concat", x, embedded(g, model, model.embeddings.target, predicted), axis=-1)
            x = linear(g, both, model.layer_fusion[i - 1])
        x = decoder_layer(g, x, layer=layer, lengths=count, memory=pair, memory_lengths=lengths)
        states = norm(g, x, model.decoder.norm)
    return states
