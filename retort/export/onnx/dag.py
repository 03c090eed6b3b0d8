"""The graph of the directed acyclic graph's model: scores of each vertex's tokens, and the transitions.

Shape letters: b batch, t vertex, i and j vertices of a transition, v tokens, h heads.
"""

from __future__ import annotations

import numpy as np

from retort.data.vocabulary import EOS
from retort.export.onnx.embeddings import sources
from retort.export.onnx.exported import Exported
from retort.export.onnx.graph import FLOAT, INT64, Form, Graph, array
from retort.export.onnx.layers import inside
from retort.export.onnx.parallel import upsampled_states
from retort.models.dag import DagModel
from retort.models.kernels import MASKED
from retort.runtime.names import CANDIDATES, END, LOGITS, MODEL, NORMALISER, TRANSITIONS


def export(model: DagModel, form: Form) -> Exported:
    """The graph of a model.

    Outputs: scores [b, t, v] of the tokens that inner vertices may hold; the log of their normaliser [b, t], over all
    tokens (with a shortlist: its candidates and the forbidden ones); the log-probability [b, t] of eos;
    log-probabilities [b, i, j] of transitions forward.
    """
    g = Graph(form)
    source, lengths = sources(g)
    states, count = upsampled_states(g, model, source=source, lengths=lengths)
    weight = array(model.embeddings.output)
    # eos first, the other forbidden ones, and then what is given out
    first = [EOS, *(i for i in model.forbidden if i != EOS)]
    if g.has_shortlist:
        rows = g.op("Concat", g.integers(*first), g.input(CANDIDATES, INT64, "v"), axis=0)
        logits = g.product_of_rows(states, weight, rows)
    else:
        logits = g.product(states, np.concatenate([weight[first], np.delete(weight, model.forbidden, axis=0)]))
    # the reduction by log-sum-exp is several times slower
    end = g.slice(g.op("LogSoftmax", logits, axis=-1), 0, 1, 2)
    normaliser = g.op("Sub", g.slice(logits, 0, 1, 2), end)
    g.output(LOGITS, g.slice(logits, len(first), None, 2), FLOAT, "b", "t", "v")
    g.output(NORMALISER, g.op("Squeeze", normaliser, g.integers(2)), FLOAT, "b", "t")
    g.output(END, g.op("Squeeze", end, g.integers(2)), FLOAT, "b", "t")
    g.output(TRANSITIONS, transitions(g, model, states=states, count=count), FLOAT, "b", "t", "t")
    assert model.upsampling is not None
    return Exported({MODEL: g.model()}, {"forbidden": model.forbidden, "upsampling": model.upsampling.fact})


def transitions(g: Graph, model: DagModel, states: str, count: str) -> str:
    """log P(j follows i) [b, i, j], -inf where j is not behind i; rows from the last vertex on are arbitrary."""
    d, heads = model.config.d_model, model.config.heads
    width = g.width(states)
    positions = array(model.slot_positions.table) @ array(model.from_position.weight).T + array(model.from_state.bias)
    packed = g.op("Add", g.product(states, array(model.from_state.weight)), g.rows(g.constant(positions), width))
    query, key, gate = g.split(packed, d, d, heads)
    query = g.op("Mul", query, g.number((d // heads) ** -0.5))
    query = g.op("Transpose", g.reshape(query, 0, 0, heads, -1), perm=[0, 2, 1, 3])
    key = g.op("Transpose", g.reshape(key, 0, 0, heads, -1), perm=[0, 2, 3, 1])
    scores = g.op("Add", g.op("MatMul", query, key), _forward_only(g, width, count))
    weights = g.op("Softmax", scores, axis=-1)
    gate = g.op("Transpose", g.op("Softmax", gate, axis=-1), perm=[0, 2, 1])
    mixed = g.op("Mul", weights, g.op("Unsqueeze", gate, g.integers(3)))
    return g.op("Log", g.op("ReduceSum", mixed, g.integers(1), keepdims=0))


def _forward_only(g: Graph, width: str, count: str) -> str:
    """What is added to scores [b, 1, i, j]: hides the vertices up to i and padding."""
    square = g.op("Expand", g.number(MASKED), g.op("Concat", width, width, axis=0))
    back = g.op("Trilu", square, upper=0)
    padding = g.op("Where", inside(g, width, count), g.number(0.0), g.number(MASKED))
    return g.op("Add", back, g.op("Unsqueeze", padding, g.integers(1, 2)))
