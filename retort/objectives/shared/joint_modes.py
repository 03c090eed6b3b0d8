"""The loss that training and pre-training of a two-mode model share: both modes and the auxiliary distribution.

Shape letters: b batch, t target position, s source position, d width, n masked tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from retort.data.vocabulary import PAD
from retort.losses.cross_entropy import linear_cross_entropy
from retort.losses.symmetric_divergence import Pairs, cross_entropies_and_divergences
from retort.losses.teacher_forcing import shifted_right
from retort.models.janus import JanusModel

AUTOREGRESSIVE, AUXILIARY, PARALLEL = range(3)
"""Indices of the distributions in ``weights`` and ``pairs``. Autoregressive: of all tokens, left to right. Auxiliary:
of the masked tokens, given the others and the masked ones on their left. Parallel: of the masked tokens, given the
others."""


class JointLoss(NamedTuple):
    """The loss of a batch, its parts, and what the length loss needs."""

    total: Tensor
    """Weighted sum of the three mean cross entropies, smoothed, and of the mean divergences: nats."""
    nlls: tuple[Tensor, Tensor, Tensor]
    """Sums over tokens of the cross entropies, neither smoothed nor weighted, detached: nats."""
    divergence: Tensor
    """Weighted sum over masked tokens of the symmetric divergences, detached: nats."""
    memory_bsd: Tensor
    """The encoder's output that the parallel mode received."""


def joint_loss(
    model: JanusModel,
    source_bs: Tensor,
    target_bt: Tensor,
    masked_bt: Tensor,
    weights: Sequence[float],
    pairs: Pairs,
    smoothing: float,
    masked_mean: bool = True,
) -> JointLoss:
    """One pass of each mode, with its own dropout, the encoder's included (released code of Liang et al. 2022).

    ``weights`` are those of the three cross entropies, ``pairs`` those of the divergences; a divergence of weight 0 is
    not computed. The autoregressive mean is over all tokens, eos included. The means of masked tokens are over the
    masked tokens, or over all tokens unless ``masked_mean``.
    """
    weight_vd = model.embeddings.output
    states_btd = model(source_bs, shifted_right(target_bt))
    memory_bsd, memory_bias = model.encode(source_bs)
    parallel_nd, auxiliary_nd = model.decode_masked(
        target_bt, masked_bt, memory_bsd=memory_bsd, memory_bias=memory_bias
    )
    # masked tokens are projected once, for all their cross entropies and divergences
    given_bt = (target_bt != PAD) & ~masked_bt
    given, given_nll = linear_cross_entropy(
        states_btd[given_bt], weight_vd, target_bt[given_bt], label_smoothing=smoothing
    )
    tokens = (target_bt != PAD).sum()
    masked = masked_bt.sum().clamp(min=1) if masked_mean else tokens
    weight_k = torch.tensor(weights, dtype=torch.float32, device=target_bt.device)
    weight_k[AUTOREGRESSIVE] *= masked / tokens
    states_knd = torch.stack([states_btd[masked_bt], auxiliary_nd, parallel_nd])
    masked_loss = cross_entropies_and_divergences(
        states_knd,
        weight_vd,
        target_n=target_bt[masked_bt],
        weight_k=weight_k,
        label_smoothing=smoothing,
        pairs=pairs,
    )
    autoregressive, auxiliary, parallel = masked_loss.nll_k
    return JointLoss(
        total=weights[AUTOREGRESSIVE] * given / tokens + masked_loss.total / masked,
        nlls=(autoregressive + given_nll, auxiliary, parallel),
        divergence=masked_loss.divergence,
        memory_bsd=memory_bsd,
    )
