"""Greedy search: the most probable token at each step."""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import Greedy
from retort.models.autoregressive import AutoregressiveModel
from retort.search.base import Hypothesis, no_output, output_limits
from retort.search.left_to_right import extend


@torch.inference_mode()
def search(
    model: AutoregressiveModel, source_bs: Tensor, options: Greedy, prefix_bt: Tensor | None = None
) -> list[list[Hypothesis]]:
    """The prefix, then the most probable token at each step; the score is the summed log-probability, eos included."""
    limits = output_limits(source_bs, options.max_ratio, longest=model.config.max_length, prefix_bt=prefix_bt)
    outputs = extend(model, source_bs, limits, prefix_bt=prefix_bt, impossible=no_output(options))
    columns = (outputs.tokens_bt, outputs.length_b, outputs.score_b, outputs.truncated_b)
    # the last token is eos, or the one after the limit
    return [
        [Hypothesis(tokens=tokens[: length - 1], score=score, truncated=truncated, passes=length)]
        for tokens, length, score, truncated in zip(*(column.tolist() for column in columns), strict=True)
    ]
