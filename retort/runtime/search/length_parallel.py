"""One pass for each of several lengths around the predicted one; the model itself chooses, since there is no teacher.

Shape letters: b sources, c length candidates of a source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retort.data.limits import LEAST_LENGTH
from retort.runtime.onnx_engine import Graphs
from retort.runtime.search.slots import Encoded, Rows, filled, filled_scored
from retort.runtime.system import Decoded, Scored

OUTPUTS_KEY = "candidates"


def search(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[Decoded]:
    """The length with the best mean log-probability wins."""
    return filled(_rows(graphs, sources, options), options)


def scored(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[list[Scored]]:
    """Distinct outputs of all lengths, by their mean log-probabilities."""
    return filled_scored(_rows(graphs, sources, options), options)


def _rows(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> Rows:
    count = options["candidates"]
    encoded = Encoded(graphs, sources)
    first_b1 = np.maximum(encoded.most_probable_lengths(1) - count // 2, LEAST_LENGTH)
    length_bc = first_b1 + np.arange(count)
    fits_bc = length_bc <= graphs.max_length
    return Rows(encoded, fits_bc.nonzero()[0], length_bc[fits_bc])
