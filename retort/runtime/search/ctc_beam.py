"""Prefix beam search over the slots of CTC, with an n-gram model of the targets.

Shape letters: b sources, t slots, v tokens, m candidate tokens of all slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retort.data.vocabulary import BLANK
from retort.runtime.names import LOGITS, MODEL
from retort.runtime.onnx_engine import Graphs
from retort.runtime.system import Decoded
from retort.search.candidates import most_probable
from retort.search.ngram_scores import Pruning
from retort.search.prefix_beam import prefix_beam

OUTPUTS_KEY = None


def search(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[Decoded]:
    """One pass."""
    scorer, pruning = graphs.scorer, Pruning.of(options)
    outputs, lengths = graphs.encoded(MODEL, sources)
    scores_btv = outputs[LOGITS]
    graphs.forbid_unknown(scores_btv)
    top_bt = scores_btv.max(2)
    column = graphs.tokens.searchsorted(BLANK)
    # every alignment has one symbol per slot, so that a slot's normaliser changes nothing: its best symbol has log p 0
    blank_bt = np.exp(scores_btv[:, :, column] - top_bt)
    scores_btv[:, :, column] = -np.inf
    decoded = []
    for row, count in enumerate(graphs.slots(lengths)):
        scores_tv, top_t = scores_btv[row, :count], top_bt[row, :count]
        row_m, column_m = most_probable(scores_tv, pruning.candidates, pruning.min_share, top_t)
        token_m, log_prob_m = graphs.tokens[column_m], scores_tv[row_m, column_m] - top_t[row_m]
        text, _ = prefix_beam(blank_bt[row, :count], row_m, token_m, log_prob_m, scorer=scorer, pruning=pruning)
        decoded.append(Decoded(text, False, 1))
    return decoded
