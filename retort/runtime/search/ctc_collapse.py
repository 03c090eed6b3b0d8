"""Best token in each slot, adjacent repeats merged, blanks removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retort.data.vocabulary import BLANK
from retort.runtime.names import LOGITS, MODEL
from retort.runtime.onnx_engine import Graphs
from retort.runtime.search.tokens import text_of, without_repeats
from retort.runtime.system import Decoded


def search(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[Decoded]:
    """One pass."""
    outputs, lengths = graphs.encoded(MODEL, sources)
    graphs.forbid_unknown(outputs[LOGITS])
    # bundles from before this option do not have it
    if penalty := options.get("blank_penalty", 0.0):
        outputs[LOGITS][..., graphs.tokens.searchsorted(BLANK)] -= np.float32(penalty)
    best = graphs.tokens[outputs[LOGITS].argmax(2)].tolist()
    slots = (lengths * graphs.facts["upsampling"]).tolist()
    return [Decoded(text_of(without_repeats(row[:count])), False, 1) for row, count in zip(best, slots, strict=True)]
