"""One pass for each of several lengths around the predicted one; an autoregressive teacher chooses (Sun and Yang 2020).

Shape letters: b sources, c length candidates of a source, n rows (a candidate of a source each), t target position.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from retort.config import LengthParallel
from retort.data.batches import Ragged, length_batches
from retort.errors import RetortError
from retort.losses.target_log_probs import target_log_probs
from retort.losses.teacher_forcing import shifted_right
from retort.models.autoregressive import AutoregressiveModel
from retort.models.parallel import ParallelModel, most_probable_lengths
from retort.search.base import Hypothesis
from retort.search.length_candidates import LengthCandidates, repeated_memory

SCORED_TOKENS = 8192
"""Candidates x padded length that the teacher scores at a time, so that a large batch needs no more memory."""


@torch.inference_mode()
def search(
    model: ParallelModel, source_bs: Tensor, options: LengthParallel, teacher: AutoregressiveModel | None = None
) -> list[list[Hypothesis]]:
    """The distinct candidates of each source: best score of the teacher first if there is one, else best mean
    log-probability of the model itself."""
    if teacher is not None and teacher.config.max_length < model.config.max_length:
        raise RetortError(
            f"a teacher of at most {teacher.config.max_length} tokens cannot score the outputs of a model of at most "
            f"{model.config.max_length}; take one with model.max_length of {model.config.max_length} or more"
        )
    found = [distinct(best) for best in lengths_around(model, source_bs, options.candidates).fill(options)]
    return found if teacher is None else rescored(teacher, source_bs, found, options.length_penalty)


def lengths_around(model: ParallelModel, source_bs: Tensor, count: int) -> LengthCandidates:
    """``count`` lengths, eos included, from max(predicted - floor(count / 2), 2) on, without those above the model's
    longest."""
    memory_bsd, memory_bias = model.encode(source_bs)
    predicted_b1 = most_probable_lengths(model, source_bs, memory_bsd, 1)
    first_b1 = (predicted_b1 - count // 2).clamp(min=2)
    length_bc = first_b1 + torch.arange(count, device=source_bs.device)
    fits_bc = length_bc <= model.config.max_length
    return LengthCandidates(model, memory_bsd, memory_bias, fits_bc.nonzero()[:, 0], length_bc[fits_bc])


def distinct(hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    """Of hypotheses with equal tokens the first."""
    first: dict[tuple[int, ...], Hypothesis] = {}
    for hypothesis in hypotheses:
        first.setdefault(tuple(hypothesis.tokens), hypothesis)
    return list(first.values())


def rescored(
    teacher: AutoregressiveModel, source_bs: Tensor, found: list[list[Hypothesis]], length_penalty: float
) -> list[list[Hypothesis]]:
    """The hypotheses with the scores log P / ((5 + length) / 6) ** length_penalty of the teacher, best first; eos
    counts in both, whether or not the hypothesis had one."""
    memory = teacher.encode(source_bs)
    source_n = torch.tensor([i for i, hypotheses in enumerate(found) for _ in hypotheses], device=source_bs.device)
    targets = Ragged.from_lists([h.tokens for hypotheses in found for h in hypotheses])
    score_n = torch.zeros(len(targets), device=source_bs.device)
    for rows in length_batches(targets.lengths, SCORED_TOKENS):
        target_nt = targets.padded(rows, 1).to(source_bs.device)
        chosen = torch.from_numpy(rows).to(source_bs.device)
        states_ntd = teacher.decode(shifted_right(target_nt), *repeated_memory(*memory, source_n[chosen]))
        score_n[chosen] = target_log_probs(states_ntd, teacher.embeddings.output, target_nt)
    length_n = torch.from_numpy(targets.lengths).to(source_bs.device) + 1
    scores = iter((score_n / ((5 + length_n) / 6) ** length_penalty).tolist())
    again = [[replace(h, score=next(scores), passes=h.passes + 1) for h in hypotheses] for hypotheses in found]
    return [sorted(hypotheses, key=lambda h: -h.score) for hypotheses in again]
