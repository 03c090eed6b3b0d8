"""One pass over the predicted length, best token at each position."""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import Argmax
from retort.models.parallel import ParallelModel
from retort.search.base import Hypothesis
from retort.search.length_candidates import LengthCandidates


@torch.inference_mode()
def search(model: ParallelModel, source_bs: Tensor, options: Argmax) -> list[list[Hypothesis]]:
    """One pass for each of the ``length_beam`` most probable lengths; best mean log-probability first, where repeats
    that are removed count."""
    return LengthCandidates.most_probable(model, source_bs, options.length_beam).fill(options)
