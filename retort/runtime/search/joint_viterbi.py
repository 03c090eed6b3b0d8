"""Joint-Viterbi decoding of a directed acyclic graph.

Shape letters: t vertices, n tokens (bos first), i and j vertices of a transition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retort.runtime.onnx_engine import Graphs
from retort.runtime.search.vertices import Vertices, read_graphs
from retort.runtime.system import Decoded, Scored
from retort.search.tokens import of_text, output_limit, text_of

OUTPUTS_KEY = None


def search(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[Decoded]:
    """One pass, and the path and tokens that are best together."""
    return [ranked[0].decoded for ranked in scored(graphs, sources, options)]


def scored(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[list[Scored]]:
    """The same; the score is log P(path, tokens) / length ** beta."""
    limits = [output_limit(len(tokens), options["max_ratio"], graphs.max_length) for tokens in sources]
    found = []
    for graph, limit in zip(read_graphs(graphs, sources), limits, strict=True):
        path, score = best_path(graph, limit, options["beta"])
        tokens = graph.token_t[path].tolist()
        log_probs = of_text(tokens, graph.log_prob_t[path].tolist())
        found.append([Scored(Decoded(text_of(tokens), False, 1), score, log_probs)])
    return found


def best_path(graph: Vertices, limit: int, beta: float) -> tuple[list[int], float]:
    """Vertices of the path with the best log P(path, tokens) / length ** beta, of at most ``limit`` tokens and eos, and
    this score."""
    transitions_ij, last = graph.transitions_ij, len(graph.token_t) - 1
    n = min(limit + 2, last + 1)
    scores_nt = np.full((n, last + 1), -np.inf, np.float32)
    scores_nt[0, 0] = graph.log_prob_t[0]
    for k in range(1, n):
        # the last row is no vertex that anything follows
        scores_nt[k] = (scores_nt[k - 1, :last, None] + transitions_ij[:last]).max(0) + graph.log_prob_t
    length_n = np.arange(1, n, dtype=np.float32)
    final_n = scores_nt[1:, last] / length_n ** np.float32(beta)
    length = int(final_n.argmax()) + 1
    path = [last]
    for k in range(length - 1, 0, -1):
        path.append(int((scores_nt[k, :last] + transitions_ij[:last, path[-1]]).argmax()))
    return path[::-1], float(final_n[length - 1])
