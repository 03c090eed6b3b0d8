"""Hypotheses, the entry point of all searches, and helpers that several searches share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from retort.config import SearchSection
from retort.data.vocabulary import FORBIDDEN, PAD, UNK
from retort.errors import RetortError
from retort.search.tokens import of_text, output_limit, text_of

NO_OUTPUT = [*FORBIDDEN, UNK]
"""Ids that a search over tokens and eos never emits, except unk where it is allowed."""


@dataclass(frozen=True)
class Hypothesis:
    """One output of a search."""

    tokens: list[int]
    """Token ids, without special ones."""
    score: float
    """The search's own score in nats, higher is better."""
    truncated: bool
    """Whether the output hit the length limit."""
    passes: int
    """Decoder passes spent."""
    log_probs: list[float] | None = field(default=None, compare=False)
    """Log-probability of each token in its slot, in nats; None for searches that decode next tokens, and for those
    that declare ``scores_tokens`` as false."""


def run_search(
    model: Any, source_bs: Tensor, options: Any, teacher: Any = None, prefix_bt: Tensor | None = None
) -> list[list[Hypothesis]]:
    """Decode a padded batch with the search ``options.kind``; one n-best list per source, best first.

    ``teacher``: the AutoregressiveModel that scores the candidates, for a search that ``needs_teacher``. ``prefix_bt``:
    padded tokens that each output begins with, for left-to-right searches; the score includes them. Raises RetortError
    if a teacher is needed and missing, or if the search cannot take prefixes.
    """
    given: dict[str, Any] = {}
    if options.needs_teacher:
        if teacher is None:
            raise RetortError(
                f"search {options.kind} needs an autoregressive teacher, and there is none; give one, or "
                f"{options.without_teacher}"
            )
        given["teacher"] = teacher
    if prefix_bt is not None:
        if options.decodes != "next_token":
            raise RetortError(f"search {options.kind} cannot continue prefixes; use greedy or beam")
        given["prefix_bt"] = prefix_bt
    module = import_module(f"retort.search.{options.kind}")
    return module.search(model, source_bs, options, **given)  # type: ignore[no-any-return]


def output_limits(source_bs: Tensor, max_ratio: float, longest: int, prefix_bt: Tensor | None = None) -> list[int]:
    """Length limit of each source's output in tokens, without eos: max_ratio x source length (without eos) + 10.

    A limit is never below the length of the source's prefix, and otherwise at most ``longest`` - 1.
    """
    lengths = (source_bs != PAD).sum(1).tolist()
    limits = [output_limit(length - 1, max_ratio, longest) for length in lengths]
    if prefix_bt is None:
        return limits
    prefix_lengths = (prefix_bt != PAD).sum(1).tolist()
    return [max(pair) for pair in zip(limits, prefix_lengths, strict=True)]


def no_output(options: SearchSection) -> list[int]:
    """Ids that this search never emits."""
    return FORBIDDEN if options.allow_unknown else NO_OUTPUT


def restrict(log_probs_rv: Tensor, impossible: Sequence[int], token_r: Tensor | None = None) -> None:
    """Make ``impossible`` tokens impossible, in place. ``token_r`` is the only possible token of its row, which may be
    unk; pad leaves a row free."""
    if token_r is None:
        log_probs_rv[:, impossible] = float("-inf")
        return
    tokens_v = torch.arange(log_probs_rv.shape[1], device=log_probs_rv.device)
    free_r1 = token_r[:, None] == PAD
    impossible_rv = torch.where(free_r1, torch.isin(tokens_v, tokens_v[impossible]), token_r[:, None] != tokens_v)
    log_probs_rv.masked_fill_(impossible_rv, float("-inf"))


def one_pass_outputs(tokens_bt: Tensor, score_b: Tensor, log_probs_bt: Tensor) -> list[list[Hypothesis]]:
    """The only hypothesis of each source: the text in its slots, its score, and the log-probability of each slot, in
    nats."""
    columns = (column.tolist() for column in (tokens_bt, score_b, log_probs_bt))
    return [
        [Hypothesis(text_of(tokens), score, truncated=False, passes=1, log_probs=of_text(tokens, log_probs))]
        for tokens, score, log_probs in zip(*columns, strict=True)
    ]
