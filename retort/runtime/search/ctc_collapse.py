"""Best token in each slot, adjacent repeats merged, blanks removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retort.runtime.names import LOGITS, MODEL
from retort.runtime.onnx_engine import Graphs
from retort.runtime.search.tokens import text_of, without_repeats
from retort.runtime.system import Decoded


def search(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[Decoded]:
    """One pass."""
    outputs, lengths = graphs.encoded(MODEL, sources)
    graphs.forbid_unknown(outputs[LOGITS])
    best = graphs.tokens[outputs[LOGITS].argmax(2)].tolist()
    slots = (lengths * graphs.facts["upsampling"]).tolist()
    return [Decoded(text_of(without_repeats(row[:count])), False, 1) for row, count in zip(best, slots, strict=True)]
