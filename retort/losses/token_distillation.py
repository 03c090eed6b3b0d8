"""Token-level distillation into slots: an autoregressive teacher labels a student whose slots are the target's tokens.

Shape letters: b batch, t target position, d width, n slots in the loss, r sentences that the teacher labels,
v vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from retort.data.batches import Batch
from retort.losses.teacher_forcing import shifted_right
from retort.losses.top_k_cross_entropy import teacher_cross_entropy

if TYPE_CHECKING:
    from retort.models.autoregressive import AutoregressiveModel


def token_distillation_loss(
    teacher: AutoregressiveModel,
    batch: Batch,
    layers: Sequence[Tensor],
    weight_vd: Tensor,
    chosen_bt: Tensor,
    top_k: int | None,
) -> Tensor:
    """Cross entropy of p_teacher(. | x, y_<t) and each chosen slot's distribution: nats, float32.

    The sum over chosen slots, weighted by sample, averaged over the ``layers`` of student states [b, t, d]. ``weight``
    is the student's output projection. ``top_k``: only so many of the teacher's tokens, the others merged; None: all.

    Its gradient is that of KL(teacher || student), because the teacher's entropy is constant. In mixed text only the
    teacher's own translations are labelled.
    """
    if batch.distilled_b is not None:
        chosen_bt = chosen_bt & batch.distilled_b[:, None]
    rows_r = chosen_bt.any(1).nonzero()[:, 0]
    if not len(rows_r):
        return torch.zeros((), device=chosen_bt.device)
    with torch.no_grad():
        theirs_rtd = teacher(batch.source_bs[rows_r], shifted_right(batch.target_bt[rows_r]))
    loss = teacher_cross_entropy(theirs_rtd[chosen_bt[rows_r]], teacher.embeddings.output, top_k)
    weights_n = batch.weights_at(chosen_bt)
    return torch.stack([loss(states_btd[chosen_bt], weight_vd, weights_n) for states_btd in layers]).mean()
