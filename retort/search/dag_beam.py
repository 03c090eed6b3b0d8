"""Beam search over the paths of a graph, with an n-gram model of the targets: the torch side.

Shape letters: b sources, t, i and j vertices, w candidate tokens of a vertex.
"""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor

from retort.config import DagBeam
from retort.models.dag import DagModel
from retort.search.base import Hypothesis, no_output, output_limits
from retort.search.graph_beam import graph_beam, most_probable_successors
from retort.search.ngram_scores import Pruning, scorer_of
from retort.search.vertices import read_candidates


@torch.inference_mode()
def search(model: DagModel, source_bs: Tensor, options: DagBeam) -> list[list[Hypothesis]]:
    """One pass; the score is that of ``graph_beam``, in nats. An output is cut where none ends within its limit."""
    scorer, pruning = scorer_of(options.model_dump()), Pruning.of(options.model_dump())
    token_btw, log_prob_btw, log_transitions_bij, vertices_b = read_candidates(
        model, source_bs, no_output(options), count=options.candidates
    )
    tokens, log_probs, log_transitions = (x.cpu().numpy() for x in (token_btw, log_prob_btw, log_transitions_bij))
    limits = output_limits(source_bs, options.max_ratio, model.config.max_length)
    hypotheses = []
    for row, (count, limit) in enumerate(zip(vertices_b.tolist(), limits, strict=True)):
        successors = most_probable_successors(
            log_transitions[row, :count, :count], log_probs[row, :count], tokens[row, :count], pruning
        )
        text, score = graph_beam(successors, scorer, limit, pruning)
        hypotheses.append([Hypothesis(text, score=score, truncated=score == -inf, passes=1)])
    return hypotheses
