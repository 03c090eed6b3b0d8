"""An autoregressive teacher that labels the slots of a student whose slots are the target's tokens.

Shape letters: b batch, t target position, d width, n positions that count, r sentences that the teacher labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from retort.data.batches import Batch
from retort.losses.next_token import shifted_right
from retort.losses.top_k_cross_entropy import teacher_cross_entropy
from retort.models.autoregressive import AutoregressiveModel
from retort.models.base import EncoderDecoder


def taught_loss(
    model: EncoderDecoder,
    teacher: AutoregressiveModel,
    batch: Batch,
    layers: Sequence[Tensor],
    chosen_bt: Tensor,
    top_k: int | None,
) -> Tensor:
    """Sum over the chosen slots of the cross entropy of p_teacher(. | x, y_<t) and the slot's distribution, each with
    its sample's weight, in nats: the mean over the ``layers`` of states [b, t, d].

    Its gradient is that of KL(teacher || student), as the teacher has none. Where the text is mixed, only the teacher's
    own targets count.
    """
    if batch.distilled_b is not None:
        chosen_bt = chosen_bt & batch.distilled_b[:, None]
    rows_r = chosen_bt.any(1).nonzero()[:, 0]
    if not len(rows_r):
        return torch.zeros((), device=chosen_bt.device)
    with torch.no_grad():
        theirs_rtd = teacher(batch.source_bs[rows_r], shifted_right(batch.target_bt[rows_r]))
    loss = teacher_cross_entropy(theirs_rtd[chosen_bt[rows_r]], teacher.embeddings.output, top_k)
    weight_vd, counts_n = model.embeddings.output, batch.weights_at(chosen_bt)
    return torch.stack([loss(x[chosen_bt], weight_vd, counts_n) for x in layers]).mean()
