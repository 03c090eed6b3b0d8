"""Likelihood of a target under a directed acyclic graph of vertices (Huang et al. 2022, section 3).

The first vertex stands for bos, which it emits by convention, and the last one emits eos: a target of n tokens, eos
included, takes n + 1 of the vertices, and its probability is the sum over all choices of them.

Shape letters: b batch, t vertex, n target token, d width, v vocabulary, m tokens of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from retort.config import Dag
from retort.data.batches import Batch
from retort.data.vocabulary import PAD
from retort.losses.base import LEAST_WEIGHT, Loss, Step
from retort.losses.gathered import gathered_log_probs
from retort.losses.glancing import glancing_ratio
from retort.losses.masked import lowest
from retort.losses.paths import best_path, best_scores, sum_of_paths
from retort.models.dag import DagModel
from retort.models.kernels import most_probable


def compute(model: DagModel, batch: Batch, options: Dag, step: Step) -> Loss:
    """Mean over the target tokens, eos included, of the sentences that have a path, each with its weight; the others
    are counted.

    (The paper takes the mean over sentences of their mean over tokens.)
    """
    memory_bsd, memory_bias = model.encode(batch.source_bs)
    ratio = glancing_ratio(options, step.progress)
    given_bt = None
    if model.training and ratio > 0:
        given_bt = glance(model, batch, memory_bsd, memory_bias, ratio, step.generator)
    log_prob_b = _log_prob(model, batch, memory_bsd, memory_bias, given_bt)
    reached_b = log_prob_b.isfinite()
    tokens = ((batch.target_bt != PAD).sum(1) * reached_b * batch.weights).sum().clamp(min=LEAST_WEIGHT)
    total = -(torch.where(reached_b, log_prob_b, 0.0) * batch.weights).sum() / tokens
    parts = {"nll": total.detach(), "infeasible": (~reached_b).float().mean()}
    if given_bt is not None:
        parts["revealed"] = (given_bt != PAD).sum() / (batch.target_bt != PAD).sum()
    return Loss(total, parts)


@torch.no_grad()
def log_likelihood(model: DagModel, batch: Batch, options: Dag) -> Tensor:
    """log P(y | x) of each pair, eos included: nats [b]; -inf where the target has more tokens than vertices."""
    return _log_prob(model, batch, *model.encode(batch.source_bs), None)


def _log_prob(
    model: DagModel, batch: Batch, memory_bsd: Tensor, memory_bias: Tensor, given_bt: Tensor | None
) -> Tensor:
    emissions_nbt, transitions_btt, vertices_b, length_b, _ = _graph(model, batch, memory_bsd, memory_bias, given_bt)
    return sum_of_paths(emissions_nbt, transitions_btt, vertices_b, length_b)


def _graph(
    model: DagModel, batch: Batch, memory_bsd: Tensor, memory_bias: Tensor, given_bt: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Log-probability of bos and the target's tokens at each vertex [1 + n, b, t], transitions [b, t, t], vertices and
    tokens with bos [b], decoder states [b, t, d]."""
    states_btd, vertices_b = model.decode_upsampled(batch.source_bs, memory_bsd, memory_bias, given_bt)
    log_probs_btn = gathered_log_probs(states_btd, model.embeddings.output, batch.target_bt)
    emissions_nbt = functional.pad(log_probs_btn.permute(2, 0, 1), (0, 0, 0, 0, 1, 0))
    length_b = (batch.target_bt != PAD).sum(1) + 1
    return emissions_nbt, model.transitions(states_btd, vertices_b), vertices_b, length_b, states_btd


@torch.no_grad()
def glance(
    model: DagModel, batch: Batch, memory_bsd: Tensor, memory_bias: Tensor, ratio: float, generator: torch.Generator
) -> Tensor:
    """Token ids [b, t] of the target to place in vertices, PAD in all others.

    Of the vertices of the target's best path, ``ratio`` x (those whose likeliest token is not the target's) are
    revealed, rounded, at uniformly random places of the path (glancing: Qian et al. 2021).
    """
    emissions_nbt, transitions_btt, vertices_b, length_b, states_btd = _graph(
        model, batch, memory_bsd, memory_bias, None
    )
    log_transitions_btt = transitions_btt.log()
    scores_nbt = best_scores(emissions_nbt, log_transitions_btt)
    path_bn = best_path(scores_nbt, log_transitions_btt, vertices_b, length_b)[:, 1:]
    target_bn = batch.target_bt
    real_bn = (target_bn != PAD) & (length_b <= vertices_b)[:, None]
    states_bnd = states_btd.gather(1, path_bn[:, :, None].expand(-1, -1, states_btd.shape[2]))
    wrong_bn = torch.zeros_like(real_bn)
    wrong_bn[real_bn] = most_probable(states_bnd[real_bn], model.embeddings.output) != target_bn[real_bn]
    count_b = (wrong_bn.sum(1) * ratio).round()
    draws_bn = torch.rand(target_bn.shape, generator=generator).to(target_bn.device)
    revealed_bn = lowest(draws_bn, real_bn, count_b)
    # the first vertex is bos's: what is not revealed goes there, as padding
    given_bt = torch.full(states_btd.shape[:2], PAD, device=target_bn.device)
    return given_bt.scatter_(1, path_bn * revealed_bn, target_bn.masked_fill(~revealed_bn, PAD))
