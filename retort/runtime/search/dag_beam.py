"""Beam search over the paths of a graph, with an n-gram model of the targets.

Shape letters: t vertices, v tokens, w candidate tokens of a vertex, m candidate tokens of all vertices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retort.data.vocabulary import EOS, PAD
from retort.runtime.names import END, LOGITS, MODEL, NORMALISER, TRANSITIONS
from retort.runtime.onnx_engine import Graphs
from retort.runtime.system import Decoded
from retort.search.candidates import most_probable
from retort.search.graph_beam import graph_beam, most_probable_successors
from retort.search.ngram_scores import Pruning
from retort.search.tokens import output_limit

OUTPUTS_KEY = None


def search(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[Decoded]:
    """One pass."""
    scorer, pruning = graphs.scorer, Pruning.of(options)
    outputs, lengths = graphs.encoded(MODEL, sources)
    graphs.forbid_unknown(outputs[LOGITS])
    decoded = []
    for row, (tokens, count) in enumerate(zip(sources, graphs.slots(lengths), strict=True)):
        scores_tv, normaliser_t = outputs[LOGITS][row, :count], outputs[NORMALISER][row, :count]
        # what is left out here has less than min_share of another successor over the same transition
        row_m, column_m = most_probable(scores_tv, pruning.candidates, pruning.min_share)
        rank_m = np.arange(len(row_m)) - row_m.searchsorted(row_m)
        log_prob_tw = np.full((count, min(pruning.candidates, scores_tv.shape[1])), -np.inf, np.float32)
        token_tw = np.full(log_prob_tw.shape, PAD)
        log_prob_tw[row_m, rank_m] = scores_tv[row_m, column_m] - normaliser_t[row_m]
        token_tw[row_m, rank_m] = graphs.tokens[column_m]
        last = count - 1
        token_tw[last, 0], log_prob_tw[last, 0], log_prob_tw[last, 1:] = EOS, outputs[END][row, last], -np.inf
        successors = most_probable_successors(outputs[TRANSITIONS][row, :count, :count], log_prob_tw, token_tw, pruning)
        limit = output_limit(len(tokens), options["max_ratio"], graphs.max_length)
        text, score = graph_beam(successors, scorer, limit, pruning)
        decoded.append(Decoded(text, score == -np.inf, 1))
    return decoded
