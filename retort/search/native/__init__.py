"""The searches with n-grams and the choice of what they try, compiled from the C files beside this one.

Where they could not be at installation, there is no library.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from retort.data.vocabulary import BOS, EOS
from retort.search.ngram_scores import Pruning, Scorer

VERSION = 3
"""Of the functions: a library that was built from another version is not used."""


class _Scorer(ctypes.Structure):
    _fields_ = [
        ("keys", ctypes.c_void_p),
        ("log_probs", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("firsts", ctypes.c_void_p),
        ("order", ctypes.c_int32),
        ("bos", ctypes.c_int32),
        ("eos", ctypes.c_int32),
        ("lm_weight", ctypes.c_double),
        ("bonus", ctypes.c_double),
        ("unknown", ctypes.c_double),
    ]


_structures: WeakKeyDictionary[Scorer, _Scorer] = WeakKeyDictionary()
"""That of each scorer, which owns its arrays."""


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where there was no C compiler, or where they are of another version."""
    try:
        loaded = ctypes.CDLL(str(Path(__file__).with_name(f"_beams{EXTENSION_SUFFIXES[0]}")))
        version = loaded.retort_native_version()
    except (OSError, AttributeError):  # not built, or for another machine
        return None
    if version != VERSION:
        return None
    number, array = ctypes.c_int32, ctypes.c_void_p
    searched: list[Any] = [number, *[array] * 5, ctypes.POINTER(_Scorer)]
    pruning: list[Any] = [number, ctypes.c_double]
    returned: list[Any] = [array, ctypes.POINTER(ctypes.c_double)]
    loaded.retort_prefix_beam.argtypes = [*searched, *pruning, *returned]
    loaded.retort_graph_beam.argtypes = [*searched, number, *pruning, *returned]
    pairs: list[Any] = [number, number, ctypes.c_int64, array, number, array, ctypes.c_float]
    loaded.retort_most_probable_pairs.argtypes = [*pairs, number, array, array]
    loaded.retort_most_probable_pairs.restype = ctypes.c_int64
    return loaded


def most_probable_pairs(
    functions: ctypes.CDLL, log_transitions_ij: np.ndarray, log_prob_jw: np.ndarray, count: int, min_share: float
) -> tuple[np.ndarray, np.ndarray]:
    """``retort.search.candidates.most_probable_pairs`` by these functions. Raises MemoryError."""
    if log_transitions_ij.strides[1] != log_transitions_ij.itemsize:
        log_transitions_ij = np.ascontiguousarray(log_transitions_ij)
    log_prob_jw = np.ascontiguousarray(log_prob_jw)
    (rows, vertices), width = log_transitions_ij.shape, log_prob_jw.shape[1]
    most = min(count, vertices * width)
    row_m, place_m = np.empty((2, rows * most), np.int32)
    found = functions.retort_most_probable_pairs(
        *(rows, vertices, log_transitions_ij.strides[0] // log_transitions_ij.itemsize, log_transitions_ij.ctypes.data),
        *(width, log_prob_jw.ctypes.data, math.log(min_share) if min_share > 0 else -math.inf),
        *(most, row_m.ctypes.data, place_m.ctypes.data),
    )
    if found < 0:
        raise MemoryError(f"the successors of {rows} vertices")
    return row_m[:found], place_m[:found]


def prefix_beam(
    functions: ctypes.CDLL,
    blank_t: np.ndarray,
    row_m: np.ndarray,
    token_m: np.ndarray,
    log_prob_m: np.ndarray,
    scorer: Scorer,
    pruning: Pruning,
) -> tuple[list[int], float]:
    """``retort.search.prefix_beam.prefix_beam`` by these functions. Raises MemoryError."""
    slots = len(blank_t)
    blank_t = np.ascontiguousarray(blank_t, np.float64)
    first_t = row_m.searchsorted(np.arange(slots + 1)).astype(np.int32)
    token_m = np.ascontiguousarray(token_m, np.int32)
    prob_m = np.exp(log_prob_m).astype(np.float64)
    log_prob_m = np.ascontiguousarray(log_prob_m, np.float64)
    arrays = (blank_t, first_t, token_m, prob_m, log_prob_m)
    return _found(functions.retort_prefix_beam, arrays, slots, scorer=scorer, pruning=pruning)


def graph_beam(
    functions: ctypes.CDLL,
    first_i: np.ndarray,
    log_prob_m: np.ndarray,
    vertex_m: np.ndarray,
    token_m: np.ndarray,
    end_i: np.ndarray,
    scorer: Scorer,
    limit: int,
    pruning: Pruning,
) -> tuple[list[int], float]:
    """``retort.search.graph_beam.graph_beam`` by these functions; the arrays are its ``Successors``.

    Raises MemoryError.
    """
    first_i, vertex_m, token_m = (np.ascontiguousarray(array, np.int32) for array in (first_i, vertex_m, token_m))
    log_prob_m, end_i = (np.ascontiguousarray(array, np.float64) for array in (log_prob_m, end_i))
    arrays = (first_i, log_prob_m, vertex_m, token_m, end_i)
    return _found(functions.retort_graph_beam, arrays, len(end_i), scorer=scorer, pruning=pruning, limit=limit)


def _found(
    function: Any, arrays: Sequence[np.ndarray], count: int, scorer: Scorer, pruning: Pruning, limit: int | None = None
) -> tuple[list[int], float]:
    """Tokens and score of what a function finds in ``count`` slots or vertices: without a ``limit``, a token per slot
    at most."""
    out, score = np.empty(count if limit is None else limit, np.int32), ctypes.c_double()
    length = function(
        count,
        *(array.ctypes.data for array in arrays),
        _structure(scorer),
        *(() if limit is None else (limit,)),
        pruning.beam_size,
        pruning.threshold,
        out.ctypes.data,
        score,
    )
    if length < 0:
        raise MemoryError(f"beam search over {count} slots or vertices")
    return out[:length].tolist(), score.value


def _structure(scorer: Scorer) -> _Scorer:
    if scorer not in _structures:
        model = scorer.model
        arrays = (model.keys, model.log_probs, model.weights, model.first_continuations)
        _structures[scorer] = _Scorer(
            *(array.ctypes.data for array in arrays),
            *(model.order, BOS, EOS, scorer.lm_weight, scorer.bonus, scorer.unknown),
        )
    return _structures[scorer]
