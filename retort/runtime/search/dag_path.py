"""Greedy and lookahead decoding of a directed acyclic graph.

Shape letters: t vertices, i and j vertices of a transition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retort.runtime.onnx_engine import Graphs
from retort.runtime.search.vertices import Vertices, read_graphs
from retort.runtime.system import Decoded, Scored
from retort.search.tokens import first_of_repeats, of_text, text_of, without_repeats

OUTPUTS_KEY = None


def search(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[Decoded]:
    """One pass, and the path whose every step is the best."""
    return [
        Decoded(text_of(without_repeats(graph.token_t[path(graph, options)[1:-1]].tolist())), False, 1)
        for graph in read_graphs(graphs, sources)
    ]


def scored(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[list[Scored]]:
    """The log-probability of the path and its tokens; of equal neighbours the first one's."""
    found = []
    for graph in read_graphs(graphs, sources):
        way = path(graph, options)
        score = graph.transitions_ij[way[:-1], way[1:]].sum() + graph.log_prob_t[way].sum()
        tokens, log_probs = graph.token_t[way[1:-1]].tolist(), graph.log_prob_t[way[1:-1]].tolist()
        decoded = Decoded(text_of(without_repeats(tokens)), False, 1)
        firsts = first_of_repeats(tokens, log_probs)
        found.append([Scored(decoded, float(score), of_text(without_repeats(tokens), firsts))])
    return found


def path(graph: Vertices, options: Mapping[str, Any]) -> list[int]:
    """Vertices from the first to the last one."""
    beta = options["beta"] if options["method"] == "lookahead" else 0.0
    by_ij = graph.transitions_ij
    if beta:
        by_ij = by_ij + np.float32(beta) * graph.log_prob_t
    next_t = by_ij.argmax(1).tolist()
    way, last = [0, next_t[0]], len(next_t) - 1
    while way[-1] < last:
        way.append(next_t[way[-1]])
    return way
