"""What a search returns, and what several searches share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor

from retort.errors import RetortError
from retort.vocabulary import BLANK, BOS, MASK, PAD, UNK

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


def run_search(model: Any, source_bs: Tensor, options: Any, teacher: Any = None) -> list[list[Hypothesis]]:
    """Decode a padded batch with the search that ``options.kind`` names; one n-best list a source, best first.

    ``teacher`` is the AutoregressiveModel that chooses among the candidates of a search that ``needs_teacher``.
    """
    module = import_module(f"retort.search.{options.kind}")
    if not needs_teacher(options):
        return module.search(model, source_bs, options)  # type: ignore[no-any-return]
    if teacher is None:
        raise RetortError(
            f"search {options.kind} with rescore needs an autoregressive teacher, and there is none; give one, or set "
            f"rescore to false or candidates to 1"
        )
    return module.search(model, source_bs, options, teacher)  # type: ignore[no-any-return]


def needs_teacher(options: Any) -> bool:
    """Whether a search has a teacher score its candidates."""
    return bool(getattr(options, "needs_teacher", False))


def output_limit(source_bs: Tensor, max_ratio: float, longest: int) -> list[int]:
    """Longest output of each source in tokens, eos not counted: max_ratio x its length (without eos) + 10."""
    lengths = (source_bs != PAD).sum(1).tolist()
    return [min(int(max_ratio * (length - 1)) + 10, longest - 1) for length in lengths]


def without_special(tokens: Sequence[int]) -> list[int]:
    """The tokens that are text: everything but pad, bos, eos, mask and blank."""
    return [token for token in tokens if token >= SPECIAL_IDS or token == UNK]
