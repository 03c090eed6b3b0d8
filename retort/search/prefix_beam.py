"""Prefix beam search over the slots of CTC, with an n-gram model (Graves and Jaitly 2014; Hannun et al. 2014).

A hypothesis is a text, whose probability is summed over all alignments of the beam. All sentences of a batch, all
hypotheses and all of a slot's candidates are extended at once; there is one step per slot that is not surely blank.
numpy alone, since exported systems decode with it too.

Shape letters: b batch, t slot, k candidate tokens of a slot, n hypotheses, c = n + n k continuations (as it is, or
with a token more).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from retort.data.ngrams import History
from retort.data.vocabulary import EOS
from retort.search.ngram_scores import Scorer, best_places, extended_keys

SURE = 0.99
"""Slots whose blank is at least this probable hold a blank, for all hypotheses alike."""
_NONE, _DEAD = -1, -2
"""In place of the last token: of the empty text, and of a hypothesis that is no longer possible."""


class Slots(NamedTuple):
    """What the slots of a batch may hold. Tokens that are no candidates are impossible."""

    blank_bt: np.ndarray
    """Probability of the blank: 1 beyond a sentence's slots."""
    tokens_btk: np.ndarray
    """Candidates, without the blank."""
    probs_btk: np.ndarray
    """Their probabilities: 0 beyond a sentence's slots."""
    behind_blank_bt: np.ndarray
    """Whether there was a slot with a sure blank just before this one."""


class Beam(NamedTuple):
    """Hypotheses [b, n]."""

    blank_bn: np.ndarray
    """Probability of the text with a blank in the last slot, up to a factor per sentence."""
    token_bn: np.ndarray
    """The same with its last token there."""
    last_bn: np.ndarray
    key_bn: np.ndarray
    parent_bn: np.ndarray
    """Key of the text without its last token."""
    score_bn: np.ndarray
    """The scorer's sum: nats."""
    history: History


def without_sure_blanks(blank_bt: np.ndarray, tokens_btk: np.ndarray, probs_btk: np.ndarray) -> Slots:
    """The slots that are not surely blank, moved to the front."""
    sure_bt = blank_bt >= SURE
    order_bt = np.argsort(sure_bt, axis=1, kind="stable")[:, : max(1, int((~sure_bt).sum(1).max()))]
    before_bt = np.concatenate([np.zeros_like(sure_bt[:, :1]), sure_bt[:, :-1]], 1)
    blank_bt, sure_bt, before_bt = (np.take_along_axis(x, order_bt, 1) for x in (blank_bt, sure_bt, before_bt))
    tokens_btk, probs_btk = (np.take_along_axis(x, order_bt[:, :, None], 1) for x in (tokens_btk, probs_btk))
    return Slots(np.where(sure_bt, 1.0, blank_bt), tokens_btk, probs_btk * ~sure_bt[:, :, None], before_bt)


def prefix_beam(slots: Slots, scorer: Scorer, beam_size: int) -> tuple[list[list[int]], np.ndarray]:
    """The best text of each sentence, and its score [b]: log of its probability over the candidates, plus the
    scorer's."""
    b, t = slots.blank_bt.shape
    one = np.ones((b, 1))
    nothing = np.zeros((b, 1), np.uint64)
    beam = Beam(one, 0 * one, np.full((b, 1), _NONE), nothing, nothing - np.uint64(1), 0 * one, scorer.start((b, 1)))
    scale_b = np.zeros(b)
    came_from, said = [], []
    for place in range(t):
        beam, from_bn, token_bn = _step(beam, slots, place, scorer=scorer, beam_size=beam_size)
        came_from.append(from_bn)
        said.append(token_bn)
        largest_b1 = (beam.blank_bn + beam.token_bn).max(1, keepdims=True)
        beam = beam._replace(blank_bn=beam.blank_bn / largest_b1, token_bn=beam.token_bn / largest_b1)
        scale_b += np.log(largest_b1[:, 0])
    end_bn, _ = scorer.extended(beam.history, np.full(beam.last_bn.shape, EOS))
    total_bn = _log(beam.blank_bn + beam.token_bn) + beam.score_bn + end_bn
    best_b = total_bn.argmax(1)
    texts = [_traced(row, int(best), came_from, said) for row, best in enumerate(best_b)]
    return texts, total_bn[np.arange(b), best_b] + scale_b


def _step(beam: Beam, slots: Slots, place: int, scorer: Scorer, beam_size: int) -> tuple[Beam, np.ndarray, np.ndarray]:
    """The beam after one more slot; the hypothesis that each one continues, and the token added, or -1: [b, n]."""
    blank_b1, token_b1k = slots.blank_bt[:, place, None], slots.tokens_btk[:, None, place]
    prob_b1k, behind_b1 = slots.probs_btk[:, None, place], slots.behind_blank_bt[:, place, None]
    any_bn = beam.blank_bn + beam.token_bn
    ends_blank_bn = np.where(behind_b1, any_bn, beam.blank_bn)
    ends_token_bn = np.where(behind_b1, 0.0, beam.token_bn)
    repeats_bnk = token_b1k == beam.last_bn[:, :, None]
    again_bn = (repeats_bnk * prob_b1k).sum(2)
    # a token that equals the last one needs a blank between them
    grown_bnk = prob_b1k * np.where(repeats_bnk, ends_blank_bn[:, :, None], any_bn[:, :, None])
    # a text that is in the beam already: its hypothesis takes the probability
    parent_bnn = beam.key_bn[:, :, None] == beam.parent_bn[:, None]
    joins_bnnk = parent_bnn[:, :, :, None] & repeats_bnk[:, None]
    joined_bn = (joins_bnnk * grown_bnk[:, :, None]).sum((1, 3))
    grown_bnk = np.where(joins_bnnk.any(2), 0.0, grown_bnk)

    scores_bnk, longer = scorer.extended(History(*(x[:, :, None] for x in beam.history)), token_b1k)
    b, n, k = grown_bnk.shape
    stays_blank_bn, stays_token_bn = any_bn * blank_b1, ends_token_bn * again_bn + joined_bn
    prob_bc = np.concatenate([stays_blank_bn + stays_token_bn, grown_bnk.reshape(b, -1)], 1)
    score_bc = np.concatenate([beam.score_bn, (beam.score_bn[:, :, None] + scores_bnk).reshape(b, -1)], 1)
    chosen_bn = best_places(_log(prob_bc) + score_bc, beam_size)

    # indexing beats take_along_axis, which takes longer than all arithmetic on a single sentence
    row_b1 = np.arange(b)[:, None]
    stays_bn, grown_bn = chosen_bn < n, np.maximum(chosen_bn - n, 0)
    from_bn, candidate_bn = np.where(stays_bn, chosen_bn, grown_bn // k), grown_bn % k
    before_bn, token_bn = (row_b1, from_bn), slots.tokens_btk[row_b1, place, candidate_bn]
    prob_bn, key_bn = prob_bc[row_b1, chosen_bn], beam.key_bn[before_bn]
    blank_bn = np.where(stays_bn, stays_blank_bn[before_bn], 0.0)
    last_bn = np.where(stays_bn, beam.last_bn[before_bn], token_bn)
    history = History(
        *(
            np.where(stays_bn[:, :, None], old[before_bn], new[row_b1, from_bn, candidate_bn])
            for old, new in zip(beam.history, longer, strict=True)
        )
    )
    new = Beam(
        blank_bn=blank_bn,
        token_bn=np.where(stays_bn, stays_token_bn[before_bn], prob_bn),
        last_bn=np.where(prob_bn > 0, last_bn, _DEAD),
        key_bn=np.where(stays_bn, key_bn, extended_keys(key_bn, token_bn)),
        parent_bn=np.where(stays_bn, beam.parent_bn[before_bn], key_bn),
        score_bn=score_bc[row_b1, chosen_bn],
        history=history,
    )
    return new, from_bn, np.where(stays_bn, _NONE, token_bn)


def _traced(row: int, place: int, came_from: list[np.ndarray], said: list[np.ndarray]) -> list[int]:
    """The tokens that led to a hypothesis."""
    tokens = []
    for from_bn, token_bn in zip(reversed(came_from), reversed(said), strict=True):
        if (token := int(token_bn[row, place])) != _NONE:
            tokens.append(token)
        place = int(from_bn[row, place])
    return tokens[::-1]


def _log(values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(values)  # type: ignore[no-any-return]
