"""Mask-predict: several passes over each of the most probable lengths.

Shape letters: n rows (a length candidate of a source each), t slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retort.data.vocabulary import MASK
from retort.runtime.onnx_engine import Graphs
from retort.runtime.search.slots import Rows, length_weight
from retort.runtime.system import Decoded


def search(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[Decoded]:
    """Pass i of T re-masks the floor(N (1 - i / T)) least probable of a candidate's N tokens, eos included."""
    iterations = options["iterations"]
    rows = Rows.most_probable(graphs, sources, options["length_beam"])
    tokens_nt = rows.masked_slots()
    log_probs_nt = np.zeros(tokens_nt.shape, np.float32)
    for i in range(iterations):
        best_nt, best_log_probs_nt = rows.best(tokens_nt)
        masked_nt = tokens_nt == MASK
        tokens_nt = np.where(masked_nt, best_nt, tokens_nt)
        log_probs_nt = np.where(masked_nt, best_log_probs_nt, log_probs_nt)
        if i + 1 < iterations:
            count_n = rows.count_n * (iterations - i - 1) // iterations
            sure_nt = np.where(rows.real_nt, log_probs_nt, 1.0)
            rank_nt = sure_nt.argsort(1, kind="stable").argsort(1, kind="stable")
            tokens_nt = np.where(rank_nt < count_n[:, None], MASK, tokens_nt)
    return rows.chosen(tokens_nt, log_probs_nt, iterations, length_weight(options))
