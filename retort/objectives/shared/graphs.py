"""What objectives of a directed acyclic graph share: the graph of a batch, its loss, and glancing along the best path.

Shape letters: b batch, s source position, t vertex, n target token, d width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from retort.config import Glancing, ObjectiveSection
from retort.data.batches import Batch
from retort.data.vocabulary import PAD
from retort.losses.base import MIN_WEIGHT, Loss
from retort.losses.dag_paths import best_path, best_scores, sum_of_paths
from retort.losses.masking import lowest
from retort.losses.token_log_probs import token_log_probs
from retort.models.dag import DagModel
from retort.models.kernels import most_probable, rewound_dropout
from retort.objectives.base import Step
from retort.objectives.shared.glancing import glancing_ratio


class TargetGraph(NamedTuple):
    """A batch's graphs, as far as their targets need them."""

    log_probs_btn: Tensor
    """Log-probabilities of the target's tokens, eos included, at each vertex."""
    transitions_bij: Tensor
    """Probabilities of the edges."""
    vertices_b: Tensor
    """Number of vertices."""
    length_b: Tensor
    """Number of target tokens, bos and eos included."""
    states_btd: Tensor
    """Decoder states."""

    @property
    def emissions_nbt(self) -> Tensor:
        """Log-probabilities of bos, which is certain, and of the target's tokens at each vertex [1 + n, b, t]."""
        return functional.pad(self.log_probs_btn.permute(2, 0, 1), (0, 0, 0, 0, 1, 0))


def target_graph(
    model: DagModel, batch: Batch, encoded: tuple[Tensor, Tensor], given_bt: Tensor | None = None
) -> TargetGraph:
    """The graphs of a batch; ``given_bt`` are tokens to place in vertices, PAD elsewhere."""
    states_btd, vertices_b = model.decode_upsampled(batch.source_bs, *encoded, given_bt)
    log_probs_btn = token_log_probs(states_btd, model.embeddings.output, batch.target_bt)
    length_b = (batch.target_bt != PAD).sum(1) + 1
    transitions_bij = model.transitions(states_btd, vertices_b)
    return TargetGraph(log_probs_btn, transitions_bij, vertices_b=vertices_b, length_b=length_b, states_btd=states_btd)


def trained_graph(
    model: DagModel, batch: Batch, options: Glancing, step: Step
) -> tuple[TargetGraph, dict[str, Tensor]]:
    """The graphs of a batch, after glancing in training, and the share ``revealed`` where there was any."""
    encoded = model.encode(batch.source_bs)
    ratio = glancing_ratio(options, step.progress)
    if not model.training or ratio <= 0:
        return target_graph(model, batch, encoded), {}
    given_bt = reveal(model, batch, encoded=encoded, ratio=ratio, generator=step.generator)
    graph = target_graph(model, batch, encoded=encoded, given_bt=given_bt)
    return graph, {"revealed": (given_bt != PAD).sum() / (batch.target_bt != PAD).sum()}


def log_prob(graph: TargetGraph) -> Tensor:
    """log P(y | x) of each pair, eos included: nats [b]; -inf where the target has more tokens than vertices."""
    return sum_of_paths(
        graph.emissions_nbt, graph.transitions_bij, vertices_b=graph.vertices_b, length_b=graph.length_b
    )


def graph_loss(graph: TargetGraph, batch: Batch) -> Loss:
    """Weighted mean of -log P per target token, eos included, over the sentences that have a path.

    The other sentences are counted as ``infeasible``.
    """
    log_prob_b = log_prob(graph)
    # NaN is no lack of a path: it reaches the loss, and the training loop reports it
    reached_b = log_prob_b != float("-inf")
    tokens = ((batch.target_bt != PAD).sum(1) * reached_b * batch.weights).sum().clamp(min=MIN_WEIGHT)
    total = -(torch.where(reached_b, log_prob_b, 0.0) * batch.weights).sum() / tokens
    return Loss(total, {"nll": total.detach(), "infeasible": (~reached_b).float().mean()}, tokens)


@torch.no_grad()
def graph_log_likelihood(model: DagModel, batch: Batch, options: ObjectiveSection) -> Tensor:
    """log P(y | x) of each pair, nothing revealed, as ``log_prob``: nats [b]."""
    return log_prob(target_graph(model, batch, model.encode(batch.source_bs)))


@torch.no_grad()
def reveal(
    model: DagModel, batch: Batch, encoded: tuple[Tensor, Tensor], ratio: float, generator: torch.Generator
) -> Tensor:
    """Target tokens [b, t] to place in vertices, PAD elsewhere (glancing: Qian et al. 2021).

    They are at uniformly random vertices of the target's best path. Their number is ``ratio`` x the vertices of that
    path whose most probable token is not the target's, rounded.
    """
    # with the dropout of the training pass, so that its own errors are counted
    with rewound_dropout(model.device):
        graph = target_graph(model, batch, encoded)
    states_btd, vertices_b, length_b = graph.states_btd, graph.vertices_b, graph.length_b
    log_transitions_bij = graph.transitions_bij.log()
    scores_nbt = best_scores(graph.emissions_nbt, log_transitions_bij)
    path_bn = best_path(scores_nbt, log_transitions_bij, vertices_b=vertices_b, length_b=length_b)[:, 1:]
    target_bn = batch.target_bt
    real_bn = (target_bn != PAD) & (length_b <= vertices_b)[:, None]
    states_bnd = states_btd.gather(1, path_bn[:, :, None].expand(-1, -1, states_btd.shape[2]))
    wrong_bn = torch.zeros_like(real_bn)
    wrong_bn[real_bn] = most_probable(states_bnd[real_bn], model.embeddings.output) != target_bn[real_bn]
    count_b = (wrong_bn.sum(1) * ratio).round()
    draws_bn = torch.rand(target_bn.shape, generator=generator).to(target_bn.device)
    revealed_bn = lowest(draws_bn, real_bn, count_b)
    # tokens that are not revealed are written to the vertex of bos, as padding
    given_bt = torch.full(states_btd.shape[:2], PAD, device=target_bn.device)
    return given_bt.scatter_(1, path_bn * revealed_bn, target_bn.masked_fill(~revealed_bn, PAD))
