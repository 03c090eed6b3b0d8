"""Beam search over the paths of a graph, with an n-gram model of the targets: the torch side.

Shape letters: b sources, t vertices, m inner vertices of all sources, w candidate tokens of a vertex, v vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import DagBeam
from retort.models.dag import DagModel
from retort.search.base import Hypothesis, no_output, output_limit
from retort.search.graph_beam import graph_beam, most_probable_successors
from retort.search.ngram_scores import scorer_of
from retort.search.vertices import read_candidates


@torch.inference_mode()
def search(model: DagModel, source_bs: Tensor, options: DagBeam) -> list[list[Hypothesis]]:
    """One pass; the score is that of ``graph_beam``, in nats. No output is cut: longer ones are not tried."""
    scorer = scorer_of(options.model_dump())
    token_btw, log_prob_btw, log_transitions_bij, vertices_b = read_candidates(
        model, source_bs, no_output(options), count=options.candidates
    )
    successors = most_probable_successors(
        log_transitions_bij.cpu().numpy(),
        log_prob_btw.cpu().numpy(),
        token_bjw=token_btw.cpu().numpy(),
        last_b=(vertices_b - 1).cpu().numpy(),
        count=options.beam_size,
    )
    limits = output_limit(source_bs, options.max_ratio, model.config.max_length)
    texts, score_b = graph_beam(successors, scorer, limits=limits, beam_size=options.beam_size)
    return [
        [Hypothesis(tokens, score=score, truncated=False, passes=1)]
        for tokens, score in zip(texts, score_b.tolist(), strict=True)
    ]
