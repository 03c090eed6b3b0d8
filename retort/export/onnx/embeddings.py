"""Sources, embeddings and scores as parts of a graph; see ``retort.models.embeddings`` for the same in torch.

Shape letters: b batch, s source position, t target position, d model width, v vocabulary.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from retort.export.onnx.graph import INT32, INT64, Graph, array
from retort.models.base import EncoderDecoder
from retort.models.embeddings import Positions
from retort.runtime.names import CANDIDATES, LENGTHS, SOURCE


def sources(g: Graph) -> tuple[str, str]:
    """Source ids [b, s], eos included, and the tokens [b] of each row."""
    return g.input(SOURCE, INT64, "b", "s"), g.input(LENGTHS, INT32, "b")


def embedded(g: Graph, model: EncoderDecoder, weight_vd: Tensor, tokens: str) -> str:
    """Embeddings of tokens by the weight of their side, without positions."""
    return g.op("Gather", g.constant(array(weight_vd) * np.float32(model.embeddings.scale)), tokens, axis=0)


def add_positions(g: Graph, x: str, positions: nn.Module, width: str) -> str:
    """``x`` plus the embeddings of the first ``width`` positions."""
    assert isinstance(positions, Positions)
    return g.op("Add", x, g.rows(g.constant(array(positions.table)), width))


def allowed_scores(g: Graph, model: EncoderDecoder, states: str) -> str:
    """Scores over all tokens but the forbidden ones, in ascending order of their ids; with a shortlist over its
    candidates, an input."""
    weight = array(model.embeddings.output)
    if g.has_shortlist:
        return g.product_of_rows(states, weight, g.input(CANDIDATES, INT64, "v"))
    return g.product(states, np.delete(weight, model.forbidden, axis=0))
