"""Optimal de-duplicated decoding: the most probable output of a given length without repeats (Sun and Yang 2020).

Shape letters: n rows, t slot, k most probable tokens per slot, j those of the slot before it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.data.vocabulary import BLANK, EOS, PAD
from retort.search.tokens import REPEAT_COST


def best_without_repeats(
    log_probs_ntk: Tensor, tokens_ntk: Tensor, length_n: Tensor, penalty: float | None
) -> tuple[Tensor, Tensor]:
    """The sequences y that maximise sum_t log p_t(y_t) - penalty * (number of t with y_t = y_{t-1}).

    ``tokens_ntk``: most probable tokens of each slot, at least min(TOKENS_PER_SLOT, vocabulary) of them, with their
    ``log_probs_ntk`` (nats). ``length_n``: slots of each row; later ones are ignored. ``penalty`` (nats): None forbids
    repeats that can be avoided.

    Returns tokens and their log-probabilities, both [n, t]; pad and 0 after a row's slots.
    """
    outside_nt = torch.arange(tokens_ntk.shape[1], device=tokens_ntk.device) >= length_n[:, None]
    score_ntk = log_probs_ntk.double().masked_fill(outside_nt[:, :, None], 0.0)
    moves_ntjk = _moves(tokens_ntk, outside_nt, REPEAT_COST if penalty is None else penalty)
    best_nk = score_ntk[:, 0]
    back = []
    for move_njk, here_nk in zip(moves_ntjk.unbind(1), score_ntk[:, 1:].unbind(1), strict=True):
        before_nk, from_nk = (best_nk[:, :, None] + move_njk).max(1)
        best_nk = before_nk + here_nk
        back.append(from_nk)
    path = [best_nk.argmax(1, keepdim=True)]
    for from_nk in reversed(back):
        path.append(from_nk.gather(1, path[-1]))
    path_nt1 = torch.stack(path[::-1], 1)
    tokens_nt = tokens_ntk.gather(2, path_nt1)[:, :, 0].masked_fill(outside_nt, PAD)
    return tokens_nt, log_probs_ntk.gather(2, path_nt1)[:, :, 0].masked_fill(outside_nt, 0.0)


def _moves(tokens_ntk: Tensor, outside_nt: Tensor, penalty: float) -> Tensor:
    """Score of the transition from token j of a slot to token k of the next one [n, t - 1, j, k].

    After a row's slots, a path keeps its index. Blanks and eos are not repeats, because they are deleted.
    """
    here_nt1k = tokens_ntk[:, 1:, None, :]
    repeated_ntjk = (tokens_ntk[:, :-1, :, None] == here_nt1k) & (here_nt1k != BLANK) & (here_nt1k != EOS)
    stay_jk = torch.eye(tokens_ntk.shape[2], dtype=torch.float64, device=tokens_ntk.device).log()
    return torch.where(outside_nt[:, 1:, None, None], stay_jk, repeated_ntjk.double() * -penalty)
