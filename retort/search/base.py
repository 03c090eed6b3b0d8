"""What a search returns, and what several searches share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from retort.data.vocabulary import BLANK, BOS, MASK, PAD, UNK
from retort.errors import RetortError

SPECIAL_IDS = 6
"""Ids below this are no text: pad, bos, eos, unk, mask, blank. unk is kept in output, the others never appear."""

NO_OUTPUT = [PAD, BOS, MASK, BLANK]
"""Ids that a search over tokens and eos never chooses."""


@dataclass(frozen=True)
class Hypothesis:
    """One output: token ids without special ones, the search's score (nats), whether it hit the length limit, and the
    decoder passes spent."""

    tokens: list[int]
    score: float
    truncated: bool
    passes: int


def run_search(
    model: Any, source_bs: Tensor, options: Any, teacher: Any = None, prefix_bt: Tensor | None = None
) -> list[list[Hypothesis]]:
    """Decode a padded batch with the search that ``options.kind`` names; one n-best list a source, best first.

    ``teacher`` is the AutoregressiveModel that chooses among the candidates of a search that ``needs_teacher``.
    ``prefix_bt``: tokens that each output begins with, padded; for left-to-right searches alone. They count as the
    others do in the score.
    """
    module = import_module(f"retort.search.{options.kind}")
    if prefix_bt is not None:
        return module.search(model, source_bs, options, prefix_bt)  # type: ignore[no-any-return]
    if not options.needs_teacher:
        return module.search(model, source_bs, options)  # type: ignore[no-any-return]
    if teacher is None:
        raise RetortError(
            f"search {options.kind} with rescore needs an autoregressive teacher, and there is none; give one, or set "
            f"rescore to false or candidates to 1"
        )
    return module.search(model, source_bs, options, teacher)  # type: ignore[no-any-return]


def output_limit(source_bs: Tensor, max_ratio: float, longest: int, prefix_bt: Tensor | None = None) -> list[int]:
    """Longest output of each source in tokens, eos not counted: max_ratio x its length (without eos) + 10; never less
    than what it is to begin with."""
    lengths = (source_bs != PAD).sum(1).tolist()
    limits = [min(int(max_ratio * (length - 1)) + 10, longest - 1) for length in lengths]
    given = [0] * len(limits) if prefix_bt is None else (prefix_bt != PAD).sum(1).tolist()
    return [max(pair) for pair in zip(limits, given, strict=True)]


def force(log_probs_rv: Tensor, token_r: Tensor) -> None:
    """Make each row's given token the only possible one, in place; pad forces none."""
    tokens_v = torch.arange(log_probs_rv.shape[1], device=log_probs_rv.device)
    others_rv = (token_r[:, None] != PAD) & (token_r[:, None] != tokens_v)
    log_probs_rv.masked_fill_(others_rv, float("-inf"))


def without_special(tokens: Sequence[int]) -> list[int]:
    """The tokens that are text: everything but pad, bos, eos, mask and blank."""
    return [token for token in tokens if token >= SPECIAL_IDS or token == UNK]
