"""Likelihood of a target under a directed acyclic graph of vertices (Huang et al. 2022, section 3).

The first vertex emits bos by convention, and the last one emits eos. A target of n tokens, eos included, takes n + 1 of
the vertices. Its probability is the sum over all choices of them.

Shape letters: b batch.
"""

from __future__ import annotations

from dataclasses import replace

from retort.config import Dag
from retort.data.batches import Batch
from retort.losses.base import Loss
from retort.models.dag import DagModel
from retort.objectives.base import Step
from retort.objectives.shared.graphs import graph_log_likelihood, graph_loss, trained_graph

log_likelihood = graph_log_likelihood


def compute(model: DagModel, batch: Batch, options: Dag, step: Step) -> Loss:
    """Weighted mean per target token, eos included, over the sentences that have a path.

    The other sentences are counted as ``infeasible``. (The paper averages over tokens first, then over sentences.)
    """
    graph, parts = trained_graph(model, batch, options, step)
    loss = graph_loss(graph, batch)
    return replace(loss, parts=loss.parts | parts)
