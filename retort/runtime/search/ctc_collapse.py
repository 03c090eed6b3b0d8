"""Best token in each slot, adjacent repeats merged, blanks removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retort.data.vocabulary import BLANK
from retort.runtime.names import LOGITS, MODEL
from retort.runtime.onnx_engine import Graphs
from retort.runtime.search.slots import normalisers
from retort.runtime.system import Decoded, Scored
from retort.search.tokens import first_of_repeats, of_text, text_of, without_repeats

OUTPUTS_KEY = None


def search(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[Decoded]:
    """One pass."""
    outputs, lengths = graphs.encoded(MODEL, sources)
    best = graphs.tokens[_best(graphs, outputs[LOGITS], options)].tolist()
    slots = graphs.slots(lengths).tolist()
    return [Decoded(text_of(without_repeats(row[:count])), False, 1) for row, count in zip(best, slots, strict=True)]


def scored(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[list[Scored]]:
    """The log-probability of the best path; a merged token has that of its first slot."""
    outputs, lengths = graphs.encoded(MODEL, sources)
    scores_btv = outputs[LOGITS]
    normaliser_bt = normalisers(scores_btv)
    best_bt = _best(graphs, scores_btv, options)
    log_probs_bt = np.take_along_axis(scores_btv, best_bt[:, :, None], 2)[:, :, 0] - normaliser_bt
    found = []
    for row, count in enumerate(graphs.slots(lengths).tolist()):
        slots, log_probs = graphs.tokens[best_bt[row, :count]].tolist(), log_probs_bt[row, :count].tolist()
        tokens, firsts = without_repeats(slots), first_of_repeats(slots, log_probs)
        found.append([Scored(Decoded(text_of(tokens), False, 1), sum(log_probs), of_text(tokens, firsts))])
    return found


def _best(graphs: Graphs, scores_btv: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    """Column of the best token in each slot [b, t]; a penalty changes the scores in place."""
    graphs.forbid_unknown(scores_btv)
    # bundles from before this option do not have it
    if penalty := options.get("blank_penalty", 0.0):
        scores_btv[..., graphs.tokens.searchsorted(BLANK)] -= np.float32(penalty)
    return scores_btv.argmax(2)  # type: ignore[no-any-return]
