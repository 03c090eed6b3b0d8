"""Mask-predict: several passes over each of the most probable lengths (Ghazvininejad et al. 2019)."""

from __future__ import annotations

from torch import Tensor

from retort.config import MaskPredict
from retort.models.parallel import ParallelModel
from retort.search.base import Hypothesis
from retort.search.refinement import refine


def search(model: ParallelModel, source_bs: Tensor, options: MaskPredict) -> list[list[Hypothesis]]:
    """At most ``iterations`` passes over each of the ``length_beam`` most probable lengths; best score first, see
    ``LengthCandidates.ranked``."""
    return refine(
        model,
        source_bs,
        length_beam=options.length_beam,
        iterations=options.iterations,
        length_weight=options.length_weight,
        confidence=options.confidence,
        allow_unknown=options.allow_unknown,
    )
