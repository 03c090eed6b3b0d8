"""Losses of a model with two modes and of the distribution between them: what its training and pre-training share.

Shape letters: b batch, t target position, s source position, d width, n masked tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from retort.data.vocabulary import PAD
from retort.losses.cross_entropy import linear_cross_entropy
from retort.losses.next_token import shifted_right
from retort.losses.tied import Pairs, tied_cross_entropies
from retort.models.janus import JanusModel

AUTOREGRESSIVE, AUXILIARY, PARALLEL = range(3)
"""The distributions, in the order of ``weights`` and as ``pairs`` name them: of all tokens left to right; of the masked
tokens, given those not masked and the masked ones on the left; of the masked tokens, given those not masked."""


class Joint(NamedTuple):
    total: Tensor
    """Weighted sum of the three mean cross entropies, smoothed, and of the mean divergences: nats."""
    nlls: tuple[Tensor, Tensor, Tensor]
    """Sums over tokens of the cross entropies, neither smoothed nor weighted, detached: nats."""
    divergence: Tensor
    """Weighted sum over masked tokens of the symmetric divergences, detached: nats."""
    memory_bsd: Tensor
    """The encoder's output that the parallel mode saw."""


def joint_loss(
    model: JanusModel,
    source_bs: Tensor,
    target_bt: Tensor,
    masked_bt: Tensor,
    weights: Sequence[float],
    pairs: Pairs,
    smoothing: float,
    masked_mean: bool = True,
) -> Joint:
    """One pass of each mode, each with its own dropout, the encoder's too (released code of Liang et al. 2022).

    Means are over all tokens, eos included, for the autoregressive distribution; over masked ones for what has to do
    with masked tokens alone, or over all tokens too unless ``masked_mean``. ``weights`` are the cross entropies',
    ``pairs`` the divergences'; those of weight 0 are not computed.
    """
    weight_vd = model.embeddings.output
    states_btd = model(source_bs, shifted_right(target_bt))
    memory_bsd, memory_bias = model.encode(source_bs)
    parallel_nd, auxiliary_nd = model.decode_masked(target_bt, masked_bt, memory_bsd, memory_bias)
    # what is masked is projected once, for its cross entropies and divergences
    given_bt = (target_bt != PAD) & ~masked_bt
    given, given_nll = linear_cross_entropy(states_btd[given_bt], weight_vd, target_bt[given_bt], smoothing)
    tokens = (target_bt != PAD).sum()
    masked = masked_bt.sum().clamp(min=1) if masked_mean else tokens
    weight_k = torch.tensor(weights, dtype=torch.float32, device=target_bt.device)
    weight_k[AUTOREGRESSIVE] *= masked / tokens
    states_knd = torch.stack([states_btd[masked_bt], auxiliary_nd, parallel_nd])
    tied = tied_cross_entropies(states_knd, weight_vd, target_bt[masked_bt], weight_k, smoothing, pairs)
    autoregressive, auxiliary, parallel = tied.nll_k
    return Joint(
        weights[AUTOREGRESSIVE] * given / tokens + tied.total / masked,
        (autoregressive + given_nll, auxiliary, parallel),
        tied.divergence,
        memory_bsd,
    )
