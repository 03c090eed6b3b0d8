"""Greedy and lookahead decoding of a directed acyclic graph.

Shape letters: t vertices, i and j vertices of a transition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retort.runtime.onnx_engine import Graphs
from retort.runtime.search.tokens import text_of, without_repeats
from retort.runtime.search.vertices import Vertices, read_graphs
from retort.runtime.system import Decoded


def search(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[Decoded]:
    """One pass, and the path whose every step is the best."""
    beta = options["beta"] if options["method"] == "lookahead" else 0.0
    return [
        Decoded(text_of(without_repeats(path_tokens(graph, beta))), False, 1) for graph in read_graphs(graphs, sources)
    ]


def path_tokens(graph: Vertices, beta: float) -> list[int]:
    """Tokens of the inner vertices on the way from the first to the last one."""
    by_ij = graph.transitions_ij
    if beta:
        by_ij = by_ij + np.float32(beta) * graph.log_prob_t
    next_t = by_ij.argmax(1).tolist()
    path, last = [next_t[0]], len(next_t) - 1
    while path[-1] < last:
        path.append(next_t[path[-1]])
    return graph.token_t[path[:-1]].tolist()  # type: ignore[no-any-return]
