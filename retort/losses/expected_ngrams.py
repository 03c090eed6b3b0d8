"""Expected numbers of bigrams in the outputs of a CTC model and of a graph, and how many of a target's they match.

The expectation is over all outputs of the model, each with its probability. Both models are simple enough for an exact
sum: the slots of CTC are independent of each other, and a graph's vertices form a Markov chain (Shao and Feng 2022;
Ma et al. 2023).

Shape letters: b batch, t slot or vertex, i and j two of them, n target token, k = n + 1 classes of a sentence (blank
and its own tokens), g = n - 1 bigrams of a target.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def ctc_bigrams(log_probs_btk: Tensor, target_bn: Tensor, slots_b: Tensor) -> Tensor:
    """Expected number of each of the target's bigrams in the collapsed outputs [b, g].

    Class 0 of ``log_probs`` is the blank, class i + 1 the i-th target token. The last slot of the first token's run and
    the first slot of the second one's have only blanks between them; equal tokens need at least one.
    """
    place_t = torch.arange(log_probs_btk.shape[1], device=slots_b.device)
    inside_bt = place_t < slots_b[:, None]
    # float64: a difference of sums over all slots
    blanks_bt = torch.where(inside_bt, log_probs_btk[:, :, 0], 0.0).double().cumsum(1)
    before_bt = functional.pad(blanks_bt[:, :-1], (1, 0))
    apart_bij = (before_bt[:, None] - blanks_bt[:, :, None]).masked_fill(place_t <= place_t[:, None], float("-inf"))
    probs_btn = log_probs_btk[:, :, 1:].exp() * inside_bt[:, :, None]
    first_btg, second_btg = probs_btn[:, :, :-1], probs_btn[:, :, 1:]
    before_second_btg = apart_bij.exp().to(probs_btn.dtype).transpose(1, 2) @ first_btg
    adjacent_bg = (first_btg[:, :-1] * second_btg[:, 1:]).sum(1)
    return (before_second_btg * second_btg).sum(1) - adjacent_bg * (target_bn[:, :-1] == target_bn[:, 1:])


def ctc_bigram_total(blank_bt: Tensor, repeats_bt: Tensor, slots_b: Tensor) -> Tensor:
    """Expected number of all bigrams of the collapsed outputs [b]: their length less one, unless they are empty.

    ``blank_bt`` are log-probabilities of the blank, ``repeats_bt`` probabilities that a slot repeats the token before
    it, as of ``retort.losses.repeat_probs``.
    """
    inside_bt = torch.arange(blank_bt.shape[1], device=slots_b.device) < slots_b[:, None]
    length_b = ((1 - blank_bt.exp() - repeats_bt) * inside_bt).sum(1)
    return length_b - 1 + torch.where(inside_bt, blank_bt, 0.0).sum(1).exp()


def graph_visits(transitions_bij: Tensor) -> Tensor:
    """Probability that a path passes each vertex [b, t]; ``transitions_bij`` are probabilities, 0 unless j > i."""
    b, t, _ = transitions_bij.shape
    start_bt1 = torch.zeros(b, t, 1, device=transitions_bij.device)
    start_bt1[:, 0] = 1
    step_bji = torch.eye(t, device=transitions_bij.device) - transitions_bij.transpose(1, 2)
    return torch.linalg.solve_triangular(step_bji, start_bt1, upper=False, unitriangular=True)[:, :, 0]


def graph_bigrams(log_probs_btn: Tensor, transitions_bij: Tensor, visits_bt: Tensor) -> Tensor:
    """Expected number of each of the target's bigrams, the one of bos and the first token included: [b, n].

    ``log_probs_btn`` are those of the target's tokens, eos included. The first vertex emits bos, and no other does.
    """
    probs_btn = functional.pad(log_probs_btn[:, 1:].exp(), (0, 0, 1, 0))
    first_btn = functional.pad(probs_btn[:, :, :-1], (1, 0))
    first_btn[:, 0, 0] = 1
    left_bin = first_btn * visits_bt[:, :, None]
    return ((transitions_bij.transpose(1, 2) @ left_bin) * probs_btn).sum(1)


def matched(expected_bg: Tensor, bigrams_bg2: Tensor, real_bg: Tensor) -> Tensor:
    """Expected matches [b]: the sum over distinct bigrams of the smaller of its expected number and the target's.

    ``bigrams_bg2`` are the target's bigrams, and ``real_bg`` is true where there is one.
    """
    same_bgg = (bigrams_bg2[:, :, None] == bigrams_bg2[:, None]).all(-1) & real_bg[:, :, None] & real_bg[:, None]
    count_bg = same_bgg.sum(2)
    # each occurrence contributes its share
    return (torch.minimum(expected_bg, count_bg) * real_bg / count_bg.clamp(min=1)).sum(1)


def bigrams_of(tokens_bn: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """Neighbouring tokens [b, g, 2], and which are no padding: boolean [b, g]."""
    bigrams_bg2 = torch.stack([tokens_bn[:, :-1], tokens_bn[:, 1:]], 2)
    return bigrams_bg2, tokens_bn[:, 1:] != pad
