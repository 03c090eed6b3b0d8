"""Next-token cross entropy of the autoregressive family.

Shape letters: b batch, s source position, t target position, k passes, n target tokens, d width.
"""

from __future__ import annotations

import torch

from retort.config import Autoregressive
from retort.data.batches import Batch
from retort.data.vocabulary import PAD
from retort.losses.base import Loss
from retort.losses.symmetric_divergence import cross_entropies_and_divergences
from retort.losses.teacher_forcing import shifted_right
from retort.models.autoregressive import AutoregressiveModel
from retort.objectives.base import Step
from retort.objectives.shared.next_token import next_token_log_likelihood, next_token_loss

log_likelihood = next_token_log_likelihood


def compute(model: AutoregressiveModel, batch: Batch, options: Autoregressive, step: Step) -> Loss:
    """Mean cross entropy per target token, eos included.

    With r_drop it is half the loss of R-Drop (Wu et al. 2021), which sums over two passes with different dropout.
    """
    if not (model.training and options.r_drop):
        return next_token_loss(model, batch, options.label_smoothing)
    real_bt = batch.target_bt != PAD
    target_n = batch.target_bt[real_bt]
    input_bt = shifted_right(batch.target_bt)
    states_knd = torch.stack([model(batch.source_bs, input_bt)[real_bt] for _ in range(2)])
    both = cross_entropies_and_divergences(
        states_knd,
        model.embeddings.output,
        target_n=target_n,
        weight_k=torch.ones(2, device=target_n.device),
        label_smoothing=options.label_smoothing,
        pairs={(0, 1): options.r_drop},
    )
    parts = {"nll": both.nll_k[0], "divergence": both.divergence / options.r_drop}
    return Loss(both.total / 2 / len(target_n), {name: nats / len(target_n) for name, nats in parts.items()})
