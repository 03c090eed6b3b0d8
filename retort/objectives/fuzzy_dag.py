"""Expected bigram precision of a graph's outputs, times their brevity penalty: fuzzy alignment (Ma et al. 2023).

Shape letters: b batch, t vertex, n target token.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from retort.config import FuzzyDag
from retort.data.batches import Batch
from retort.data.vocabulary import BOS, PAD
from retort.losses.base import MIN_WEIGHT, Loss
from retort.losses.expected_ngrams import bigrams_of, graph_bigrams, graph_visits, matched
from retort.models.dag import DagModel
from retort.objectives.base import Step
from retort.objectives.shared.graphs import TargetGraph, graph_log_likelihood, graph_loss, trained_graph

log_likelihood = graph_log_likelihood


def compute(model: DagModel, batch: Batch, options: FuzzyDag, step: Step) -> Loss:
    """1 - precision x brevity penalty, weighted mean over sentences, plus ``likelihood_weight`` x the loss of ``dag``.

    ``precision`` and ``brevity`` are those means apart. In evaluation mode ``nll`` is that of ``dag``.
    """
    graph, parts = trained_graph(model, batch, options, step)
    precision_b, brevity_b = bigram_precision(graph, batch.target_bt)
    sentences = batch.weights.sum().clamp(min=MIN_WEIGHT)
    total = 1 - (precision_b * brevity_b * batch.weights).sum() / sentences
    parts["precision"] = (precision_b * batch.weights).sum().detach() / sentences
    parts["brevity"] = (brevity_b * batch.weights).sum().detach() / sentences
    loss = Loss(total, parts, sentences)
    if options.likelihood_weight or not model.training:
        likelihood = graph_loss(graph, batch)
        loss = loss.plus(options.likelihood_weight * likelihood.total, likelihood.tokens, likelihood.parts)
    return loss


def bigram_precision(graph: TargetGraph, target_bt: Tensor) -> tuple[Tensor, Tensor]:
    """Expected matches / expected bigrams of an output, and min(1, exp(1 - target length / expected length)), both [b].

    Bigrams and lengths count bos and eos.
    """
    visits_bt = graph_visits(graph.transitions_bij)
    expected_bn = graph_bigrams(graph.log_probs_btn, graph.transitions_bij, visits_bt)
    matches_b = matched(expected_bn, *bigrams_of(functional.pad(target_bt, (1, 0), value=BOS), PAD))
    length_b = visits_bt.sum(1)
    brevity_b = torch.exp(1 - graph.length_b / length_b).clamp(max=1)
    return matches_b / (length_b - 1), brevity_b
