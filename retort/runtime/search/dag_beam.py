"""Beam search over the paths of a graph, with an n-gram model of the targets.

Shape letters: t vertices, v tokens, w candidate tokens of a vertex.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retort.data.vocabulary import EOS
from retort.runtime.names import END, LOGITS, MODEL, NORMALISER, TRANSITIONS
from retort.runtime.onnx_engine import Graphs
from retort.runtime.search.tokens import output_limit
from retort.runtime.system import Decoded, Scored, no_token_scores
from retort.search.graph_beam import graph_beam, most_probable_successors
from retort.search.ngram_scores import best_places, scorer_of

OUTPUTS_KEY = None


def search(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[Decoded]:
    """One pass."""
    scorer, size = scorer_of(options, graphs.directory), options["beam_size"]
    outputs, lengths = graphs.encoded(MODEL, sources)
    graphs.forbid_unknown(outputs[LOGITS])
    decoded = []
    for row, (tokens, count) in enumerate(zip(sources, lengths * graphs.facts["upsampling"], strict=True)):
        scores_tv = outputs[LOGITS][row, :count]
        best_tw = best_places(scores_tv, min(options["candidates"], scores_tv.shape[1]))
        log_prob_tw = np.take_along_axis(scores_tv, best_tw, 1) - outputs[NORMALISER][row, :count, None]
        token_tw, last = graphs.tokens[best_tw], count - 1
        token_tw[last, 0], log_prob_tw[last, 0], log_prob_tw[last, 1:] = EOS, outputs[END][row, last], -np.inf
        transitions_ij = outputs[TRANSITIONS][row, :count, :count].copy()
        transitions_ij[last] = -np.inf
        successors = most_probable_successors(
            transitions_ij[None], log_prob_tw[None], token_bjw=token_tw[None], last_b=np.array([last]), count=size
        )
        limit = output_limit(len(tokens), options["max_ratio"], graphs.max_length)
        texts, _ = graph_beam(successors, scorer, limits=[limit], beam_size=size)
        decoded.append(Decoded(texts[0], False, 1))
    return decoded


def scored(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[list[Scored]]:
    """Raises RetortError: no token has a probability of its own."""
    raise no_token_scores(options["kind"])
