"""The most probable tokens of slots, and the most probable successors of vertices.

Shape letters: r rows, c columns, m candidates of all rows; i and j vertices, w candidate tokens of a vertex.
"""

from __future__ import annotations

import math

import numpy as np

from retort.search import native


def most_probable(
    log_probs_rc: np.ndarray, count: int, min_share: float, top_r: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the at most ``count`` largest values of each row that are at least ``top_r`` + log
    ``min_share``: row by row, the largest first. ``top_r`` is the row's largest by default. Those of -inf are left out.
    """
    columns = log_probs_rc.shape[1]
    if min_share > 0:
        top_r = log_probs_rc.max(1) if top_r is None else top_r
        wanted_rc = log_probs_rc >= (top_r + np.float32(math.log(min_share)))[:, None]
    elif count < columns:
        wanted_rc = log_probs_rc >= np.partition(log_probs_rc, -count, axis=1)[:, -count, None]
    else:
        wanted_rc = log_probs_rc > -np.inf
    row_m, column_m = np.divmod(wanted_rc.ravel().nonzero()[0], columns)
    value_m = log_probs_rc[row_m, column_m]
    order_m = np.lexsort((-value_m, row_m))
    row_m, column_m, value_m = row_m[order_m], column_m[order_m], value_m[order_m]
    rank_m = np.arange(len(row_m)) - row_m.searchsorted(row_m)
    kept_m = (rank_m < count) & (value_m > -np.inf)
    return row_m[kept_m], column_m[kept_m]


def most_probable_pairs(
    log_transitions_ij: np.ndarray, log_prob_jw: np.ndarray, count: int, min_share: float
) -> tuple[np.ndarray, np.ndarray]:
    """``most_probable`` of the sums of a transition and a token, in the rows i; columns are those of ``jw``, flat."""
    functions = native.library()
    if functions and log_transitions_ij.dtype == log_prob_jw.dtype == np.float32:
        return native.most_probable_pairs(functions, log_transitions_ij, log_prob_jw, count, min_share)
    both_ic = (log_transitions_ij[:, :, None] + log_prob_jw).reshape(len(log_transitions_ij), -1)
    return most_probable(both_ic, count, min_share)
