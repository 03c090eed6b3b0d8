"""What the searches of a directed acyclic graph read of it.

Shape letters: b sources, t vertices, v tokens, i and j vertices of a transition.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from retort.data.vocabulary import EOS, PAD
from retort.runtime.names import END, LOGITS, MODEL, NORMALISER, TRANSITIONS
from retort.runtime.onnx_engine import Graphs


class Vertices(NamedTuple):
    """The graph of one source."""

    token_t: np.ndarray
    """Best token of each vertex: text in the inner ones, eos in the last, pad in the first."""
    log_prob_t: np.ndarray
    """Its log-probability; 0 in the first vertex."""
    transitions_ij: np.ndarray
    """Log-probabilities, -inf where j is not behind i; the last row is arbitrary."""


def read_graphs(graphs: Graphs, sources: Sequence[Sequence[int]]) -> Iterator[Vertices]:
    """The graph of each source, one after the other."""
    outputs, lengths = graphs.encoded(MODEL, sources)
    graphs.forbid_unknown(outputs[LOGITS])
    best_bt = outputs[LOGITS].argmax(2)
    log_prob_bt = np.take_along_axis(outputs[LOGITS], best_bt[:, :, None], 2)[:, :, 0] - outputs[NORMALISER]
    for row, count in enumerate(graphs.slots(lengths)):
        last = count - 1
        token_t, log_prob_t = graphs.tokens[best_bt[row, :count]], log_prob_bt[row, :count]
        token_t[0], log_prob_t[0] = PAD, 0.0
        token_t[last], log_prob_t[last] = EOS, outputs[END][row, last]
        yield Vertices(token_t, log_prob_t, outputs[TRANSITIONS][row, :count, :count])
