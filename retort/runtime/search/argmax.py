"""One pass over the most probable lengths, best token at each position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retort.runtime.onnx_engine import Graphs
from retort.runtime.search.slots import Rows, filled, filled_scored
from retort.runtime.system import Decoded, Scored

OUTPUTS_KEY = "length_beam"


def search(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[Decoded]:
    """The length with the best mean log-probability wins."""
    return filled(Rows.most_probable(graphs, sources, options["length_beam"]), options)


def scored(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[list[Scored]]:
    """Distinct outputs of all lengths, by their mean log-probabilities."""
    return filled_scored(Rows.most_probable(graphs, sources, options["length_beam"]), options)
