"""Prefix beam search over the slots of CTC, with an n-gram model of the targets.

Shape letters: b sources, t slots, v tokens, k candidate tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retort.data.vocabulary import BLANK
from retort.runtime.names import LOGITS, MODEL
from retort.runtime.onnx_engine import Graphs
from retort.runtime.system import Decoded, Scored, no_token_scores
from retort.search.ngram_scores import best_places, scorer_of
from retort.search.prefix_beam import prefix_beam, without_sure_blanks

OUTPUTS_KEY = None


def search(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[Decoded]:
    """One pass."""
    scorer = scorer_of(options, graphs.directory)
    outputs, lengths = graphs.encoded(MODEL, sources)
    scores_btv = outputs[LOGITS]
    graphs.forbid_unknown(scores_btv)
    inside_bt = np.arange(scores_btv.shape[1]) < (lengths * graphs.facts["upsampling"])[:, None]
    probs_btv = np.exp(scores_btv - scores_btv.max(2, keepdims=True))
    sums_bt = probs_btv.sum(2)
    column = graphs.tokens.searchsorted(BLANK)
    blank_bt = np.where(inside_bt, probs_btv[:, :, column] / sums_bt, 1.0)
    probs_btv[:, :, column] = 0.0
    b, t, v = probs_btv.shape
    best_nk = best_places(probs_btv.reshape(b * t, v), min(options["candidates"], v))
    probs_nk = probs_btv.reshape(b * t, v)[np.arange(b * t)[:, None], best_nk] / sums_bt.reshape(b * t, 1)
    probs_btk = probs_nk.reshape(b, t, -1) * inside_bt[:, :, None]
    tokens_btk = graphs.tokens[best_nk].reshape(probs_btk.shape)
    texts, _ = prefix_beam(without_sure_blanks(blank_bt, tokens_btk, probs_btk), scorer, options["beam_size"])
    return [Decoded(tokens, False, 1) for tokens in texts]


def scored(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[list[Scored]]:
    """Raises RetortError: no token has a probability of its own."""
    raise no_token_scores(options["kind"])
