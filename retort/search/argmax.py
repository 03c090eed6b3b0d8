"""One pass over the predicted length, best token at each position."""

from __future__ import annotations

from torch import Tensor

from retort.config import Argmax
from retort.models.parallel import ParallelModel
from retort.search.base import Hypothesis
from retort.search.refinement import refine


def search(model: ParallelModel, source_bs: Tensor, options: Argmax) -> list[list[Hypothesis]]:
    """One pass for each of the ``length_beam`` most probable lengths; best mean log-probability first."""
    return refine(model, source_bs, options.length_beam, iterations=1)
