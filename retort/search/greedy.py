"""Greedy search."""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import Greedy
from retort.models.autoregressive import AutoregressiveModel
from retort.search.base import Hypothesis, output_limit
from retort.search.left_to_right import extend


@torch.inference_mode()
def search(
    model: AutoregressiveModel, source_bs: Tensor, options: Greedy, prefix_bt: Tensor | None = None
) -> list[list[Hypothesis]]:
    """The most probable token at each step, once the prefix is said; the score is the sum of log-probabilities, eos
    included."""
    limits = output_limit(source_bs, options.max_ratio, model.config.max_length, prefix_bt)
    found = extend(model, source_bs, limits, lambda log_probs_bv: log_probs_bv.max(1), prefix_bt)
    # the last token is eos, or the one beyond the limit
    return [
        [Hypothesis(tokens[: length - 1], score, cut, length)]
        for tokens, length, score, cut in zip(
            found.tokens_bt.tolist(),
            found.length_b.tolist(),
            found.score_b.tolist(),
            found.truncated_b.tolist(),
            strict=True,
        )
    ]
