"""One pass over slots of a predicted length, the most probable token in each."""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import Argmax
from retort.models.parallel import ParallelModel
from retort.search.base import Hypothesis
from retort.search.length_candidates import LengthCandidates


@torch.inference_mode()
def search(model: ParallelModel, source_bs: Tensor, options: Argmax) -> list[list[Hypothesis]]:
    """One pass over each of the ``length_beam`` most probable lengths; in the order of
    ``LengthCandidates.ranked``. The mean is over all slots, also those whose repeats are removed.
    """
    return LengthCandidates.most_probable(model, source_bs, options.length_beam).fill(options)
