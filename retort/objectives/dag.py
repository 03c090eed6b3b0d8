"""Likelihood of a target under a directed acyclic graph of vertices (Huang et al. 2022, section 3).

The first vertex emits bos by convention, and the last one emits eos. A target of n tokens, eos included, takes n + 1 of
the vertices. Its probability is the sum over all choices of them.

Shape letters: b batch, s source position, t vertex, n target token, d width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from retort.config import Dag
from retort.data.batches import Batch
from retort.data.vocabulary import PAD
from retort.losses.base import MIN_WEIGHT, Loss
from retort.losses.dag_paths import best_path, best_scores, sum_of_paths
from retort.losses.masking import lowest
from retort.losses.token_log_probs import token_log_probs
from retort.models.dag import DagModel
from retort.models.kernels import most_probable
from retort.objectives.base import Step
from retort.objectives.shared.glancing import glancing_ratio


def compute(model: DagModel, batch: Batch, options: Dag, step: Step) -> Loss:
    """Weighted mean per target token, eos included, over the sentences that have a path.

    The other sentences are counted as ``infeasible``. (The paper averages over tokens first, then over sentences.)
    """
    memory_bsd, memory_bias = model.encode(batch.source_bs)
    ratio = glancing_ratio(options, step.progress)
    given_bt = None
    if model.training and ratio > 0:
        given_bt = reveal(
            model,
            batch,
            memory_bsd=memory_bsd,
            memory_bias=memory_bias,
            ratio=ratio,
            generator=step.generator,
        )
    log_prob_b = _log_prob(model, batch, memory_bsd=memory_bsd, memory_bias=memory_bias, given_bt=given_bt)
    # NaN is no lack of a path: it reaches the loss, and the training loop reports it
    reached_b = log_prob_b != float("-inf")
    tokens = ((batch.target_bt != PAD).sum(1) * reached_b * batch.weights).sum().clamp(min=MIN_WEIGHT)
    total = -(torch.where(reached_b, log_prob_b, 0.0) * batch.weights).sum() / tokens
    parts = {"nll": total.detach(), "infeasible": (~reached_b).float().mean()}
    if given_bt is not None:
        parts["revealed"] = (given_bt != PAD).sum() / (batch.target_bt != PAD).sum()
    return Loss(total, parts)


@torch.no_grad()
def log_likelihood(model: DagModel, batch: Batch, options: Dag) -> Tensor:
    """log P(y | x) of each pair, eos included: nats [b]; -inf where the target has more tokens than vertices."""
    memory_bsd, memory_bias = model.encode(batch.source_bs)
    return _log_prob(model, batch, memory_bsd=memory_bsd, memory_bias=memory_bias, given_bt=None)


def _log_prob(
    model: DagModel, batch: Batch, memory_bsd: Tensor, memory_bias: Tensor, given_bt: Tensor | None
) -> Tensor:
    emissions_nbt, transitions_btt, vertices_b, length_b, _ = _graph(
        model, batch, memory_bsd=memory_bsd, memory_bias=memory_bias, given_bt=given_bt
    )
    return sum_of_paths(emissions_nbt, transitions_btt, vertices_b=vertices_b, length_b=length_b)


def _graph(
    model: DagModel, batch: Batch, memory_bsd: Tensor, memory_bias: Tensor, given_bt: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Log-probabilities of bos and the target's tokens at each vertex [1 + n, b, t]; transitions [b, t, t]; numbers of
    vertices [b] and of tokens with bos [b]; decoder states [b, t, d].
    """
    states_btd, vertices_b = model.decode_upsampled(
        batch.source_bs, memory_bsd, memory_bias=memory_bias, given_bt=given_bt
    )
    log_probs_btn = token_log_probs(states_btd, model.embeddings.output, batch.target_bt)
    emissions_nbt = functional.pad(log_probs_btn.permute(2, 0, 1), (0, 0, 0, 0, 1, 0))
    length_b = (batch.target_bt != PAD).sum(1) + 1
    return emissions_nbt, model.transitions(states_btd, vertices_b), vertices_b, length_b, states_btd


@torch.no_grad()
def reveal(
    model: DagModel, batch: Batch, memory_bsd: Tensor, memory_bias: Tensor, ratio: float, generator: torch.Generator
) -> Tensor:
    """Target tokens [b, t] to place in vertices, PAD elsewhere (glancing: Qian et al. 2021).

    They are at uniformly random vertices of the target's best path. Their number is ``ratio`` x the vertices of that
    path whose most probable token is not the target's, rounded.
    """
    emissions_nbt, transitions_btt, vertices_b, length_b, states_btd = _graph(
        model, batch, memory_bsd=memory_bsd, memory_bias=memory_bias, given_bt=None
    )
    log_transitions_btt = transitions_btt.log()
    scores_nbt = best_scores(emissions_nbt, log_transitions_btt)
    path_bn = best_path(scores_nbt, log_transitions_btt, vertices_b=vertices_b, length_b=length_b)[:, 1:]
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
