"""Optimal de-duplicated decoding (Sun and Yang 2020) of one output.

Shape letters: t slot, k most probable tokens of a slot, j those of the slot before it.
"""

from __future__ import annotations

import numpy as np

from retort.data.vocabulary import BLANK, EOS
from retort.search.tokens import REPEAT_COST


def without_repeats_of(
    log_probs_tk: np.ndarray, tokens_tk: np.ndarray, penalty: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens y and their log-probabilities, both [t], that maximise the sum of log p_t(y_t) minus ``penalty`` for each
    repeat; None forbids repeats where they can be avoided. Blanks and eos are no repeats: they are deleted."""
    cost = REPEAT_COST if penalty is None else penalty
    best_k, back = log_probs_tk[0].astype(np.float64), []
    for t in range(1, len(tokens_tk)):
        here_k = tokens_tk[t]
        repeated_jk = (tokens_tk[t - 1][:, None] == here_k) & (here_k != BLANK) & (here_k != EOS)
        ways_jk = best_k[:, None] - cost * repeated_jk
        from_k = ways_jk.argmax(0)
        best_k = ways_jk[from_k, np.arange(len(here_k))] + log_probs_tk[t]
        back.append(from_k)
    path = [int(best_k.argmax())]
    for from_k in reversed(back):
        path.append(int(from_k[path[-1]]))
    places = np.arange(len(tokens_tk))
    return tokens_tk[places, path[::-1]], log_probs_tk[places, path[::-1]]
