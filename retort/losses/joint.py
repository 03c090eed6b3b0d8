"""Losses of a model with two modes and of the distribution between them: what its training and pre-training share.

Shape letters: b batch, t target position, s source position, d width, n masked tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from retort.losses.cross_entropy import linear_cross_entropy
from retort.losses.divergence import linear_divergence
from retort.losses.next_token import shifted_right
from retort.models.janus import JanusModel
from retort.vocabulary import PAD

AUTOREGRESSIVE, AUXILIARY, PARALLEL = range(3)
"""The distributions, as ``pairs`` of divergences name them."""


class Joint(NamedTuple):
    """Sums in nats, with the encoder's output that the parallel mode saw."""

    autoregressive: Tensor
    """Smoothed cross entropy of all tokens."""
    auxiliary: Tensor
    """That of the masked tokens, given those not masked and the masked ones on the left."""
    parallel: Tensor
    """That of the masked tokens, given those not masked."""
    divergence: Tensor
    """Weighted sum of the symmetric divergences, over the masked tokens."""
    nlls: tuple[Tensor, Tensor, Tensor]
    """The cross entropies without smoothing, detached, in the same order."""
    memory_bsd: Tensor


def joint_loss(
    model: JanusModel,
    source_bs: Tensor,
    target_bt: Tensor,
    masked_bt: Tensor,
    pairs: Mapping[tuple[int, int], float],
    smoothing: float,
) -> Joint:
    """One pass of each mode, each with its own dropout, the encoder's too (released code of Liang et al. 2022).

    ``pairs`` are the weights of the divergences; those of weight 0 are not computed.
    """
    weight_vd, real_bt = model.embeddings.output, target_bt != PAD
    states_btd = model(source_bs, shifted_right(target_bt))
    memory_bsd, memory_bias = model.encode(source_bs)
    parallel_nd, auxiliary_nd = model.decode_masked(target_bt, masked_bt, memory_bsd, memory_bias)
    target_n = target_bt[masked_bt]
    autoregressive, auxiliary, parallel = (
        linear_cross_entropy(states, weight_vd, target, smoothing)
        for states, target in (
            (states_btd[real_bt], target_bt[real_bt]),
            (auxiliary_nd, target_n),
            (parallel_nd, target_n),
        )
    )
    divergence = torch.zeros((), device=target_bt.device)
    if pairs := {pair: weight for pair, weight in pairs.items() if weight}:
        states_knd = torch.stack([states_btd[masked_bt], auxiliary_nd, parallel_nd])
        divergence = linear_divergence(states_knd, weight_vd, pairs)
    nlls = (autoregressive[1], auxiliary[1], parallel[1])
    return Joint(autoregressive[0], auxiliary[0], parallel[0], divergence, nlls, memory_bsd)
