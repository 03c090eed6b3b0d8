"""Mask-predict: several passes over each of the most probable lengths.

Shape letters: n rows (a length candidate of a source each), t slot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retort.data.vocabulary import MASK
from retort.runtime.onnx_engine import Graphs
from retort.runtime.search.slots import Rows, length_weight
from retort.runtime.system import Decoded, Scored, distinct

OUTPUTS_KEY = "length_beam"


def search(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[Decoded]:
    """After each pass i of T but the last, the max(1, floor(N (1 - i / T))) least probable of a candidate's N tokens,
    eos included, are masked again, but none that is as probable as ``confidence``."""
    rows, tokens_nt, log_probs_nt, passes_b = _refined(graphs, sources, options)
    decoded = rows.chosen(tokens_nt, log_probs_nt, passes=0, length_weight=length_weight(options))
    return [d._replace(passes=passes) for d, passes in zip(decoded, passes_b.tolist(), strict=True)]


def scored(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[list[Scored]]:
    """Distinct outputs of all lengths, by their mean log-probabilities."""
    rows, tokens_nt, log_probs_nt, passes_b = _refined(graphs, sources, options)
    ranked = rows.ranked(tokens_nt, log_probs_nt, passes=0, length_weight=length_weight(options))
    return [
        [s._replace(decoded=s.decoded._replace(passes=passes)) for s in distinct(best)]
        for best, passes in zip(ranked, passes_b.tolist(), strict=True)
    ]


def _refined(
    graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]
) -> tuple[Rows, np.ndarray, np.ndarray, np.ndarray]:
    """The rows, their tokens and log-probabilities [n, t], and the passes of each source [b]."""
    # bundles from before this option do not have it
    confidence = options.get("confidence")
    sure = math.inf if confidence is None else math.log(confidence) if confidence else -math.inf
    iterations = options["iterations"]
    rows = Rows.most_probable(graphs, sources, options["length_beam"])
    tokens_nt = rows.masked_slots()
    log_probs_nt = np.zeros(tokens_nt.shape, np.float32)
    passes_b = np.full(len(sources), iterations)
    for i in range(iterations):
        if confidence is not None:
            open_n = (tokens_nt == MASK).any(1)
            if not open_n.any():
                break
            passes_b[rows.source_n[open_n]] = i + 1
        best_nt, best_log_probs_nt = rows.best(tokens_nt)
        masked_nt = tokens_nt == MASK
        tokens_nt = np.where(masked_nt, best_nt, tokens_nt)
        log_probs_nt = np.where(masked_nt, best_log_probs_nt, log_probs_nt)
        if i + 1 < iterations:
            count_n = np.maximum(1, rows.count_n * (iterations - i - 1) // iterations)
            sure_nt = np.where(rows.real_nt, log_probs_nt, 1.0)
            rank_nt = sure_nt.argsort(1, kind="stable").argsort(1, kind="stable")
            tokens_nt = np.where((rank_nt < count_n[:, None]) & (log_probs_nt < sure), MASK, tokens_nt)
    return rows, tokens_nt, log_probs_nt, passes_b
