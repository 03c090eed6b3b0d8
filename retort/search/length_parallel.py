"""Length-parallel decoding: several lengths around the predicted one, ranked by a teacher (Sun and Yang 2020).

Shape letters: b sources, c length candidates per source, n rows (one per source and candidate), t target position.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from retort.config import LengthParallel
from retort.data.batches import Ragged, length_batches
from retort.data.limits import LEAST_LENGTH
from retort.losses.target_log_probs import target_log_probs
from retort.losses.teacher_forcing import shifted_right
from retort.models.autoregressive import AutoregressiveModel
from retort.models.parallel import ParallelModel, most_probable_lengths
from retort.search.base import Hypothesis
from retort.search.length_candidates import LengthCandidates, repeated_memory
from retort.search.tokens import length_penalty

SCORED_TOKENS = 8192
"""Candidates x padded length that the teacher scores at once; bounds the memory for large batches."""


@torch.inference_mode()
def search(
    model: ParallelModel, source_bs: Tensor, options: LengthParallel, teacher: AutoregressiveModel | None = None
) -> list[list[Hypothesis]]:
    """Distinct candidates of each source, highest score first, in nats.

    The score is the teacher's, see ``rescored``; without a teacher it is that of ``LengthCandidates.ranked``.
    """
    candidates = lengths_around(model, source_bs, options.candidates)
    nbest_lists = candidates.fill(options)
    if teacher is None:
        return nbest_lists
    return rescored(teacher, source_bs, nbest_lists, alpha=options.length_penalty)


def lengths_around(model: ParallelModel, source_bs: Tensor, count: int) -> LengthCandidates:
    """Candidates of ``count`` lengths, eos included, from max(predicted - floor(count / 2), 2) on.

    Lengths above the model's maximum are left out.
    """
    memory_bsd, memory_bias = model.encode(source_bs)
    predicted_b1 = most_probable_lengths(model, source_bs, memory_bsd, count=1)
    first_b1 = (predicted_b1 - count // 2).clamp(min=LEAST_LENGTH)
    length_bc = first_b1 + torch.arange(count, device=source_bs.device)
    fits_bc = length_bc <= model.config.max_length
    return LengthCandidates.of_lengths(
        model,
        source_bs,
        memory_bsd=memory_bsd,
        memory_bias=memory_bias,
        source_n=fits_bc.nonzero()[:, 0],
        length_n=length_bc[fits_bc],
    )


def rescored(
    teacher: AutoregressiveModel, source_bs: Tensor, nbest_lists: list[list[Hypothesis]], alpha: float
) -> list[list[Hypothesis]]:
    """The hypotheses with the teacher's scores log P / ``length_penalty`` (nats), best first.

    P and length include eos for every hypothesis.
    """
    memory = teacher.encode(source_bs)
    source_n = torch.tensor(
        [i for i, hypotheses in enumerate(nbest_lists) for _ in hypotheses], device=source_bs.device
    )
    targets = Ragged.from_lists([h.tokens for hypotheses in nbest_lists for h in hypotheses])
    score_n = torch.zeros(len(targets), device=source_bs.device)
    for rows in length_batches(targets.lengths, SCORED_TOKENS):
        target_nt = targets.padded(rows, 1).to(source_bs.device)
        row_index = torch.from_numpy(rows).to(source_bs.device)
        states_ntd = teacher.decode(shifted_right(target_nt), *repeated_memory(*memory, source_n[row_index]))
        score_n[row_index] = target_log_probs(states_ntd, teacher.embeddings.output, target_nt)
    length_n = torch.from_numpy(targets.lengths).to(source_bs.device) + 1
    scores = iter((score_n / length_penalty(length_n, alpha)).tolist())
    scored = [[replace(h, score=next(scores), passes=h.passes + 1) for h in hypotheses] for hypotheses in nbest_lists]
    return [sorted(hypotheses, key=lambda h: -h.score) for hypotheses in scored]
