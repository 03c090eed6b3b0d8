"""Prefix beam search over the slots of CTC, with an n-gram model (Graves and Jaitly 2014; Hannun et al. 2014).

A hypothesis is a text, whose probability is summed over all alignments of the beam. There is one step per slot, one
sentence at a time. A step tries some twenty continuations, since one must be better than the beam's last hypothesis so
far before its n-gram is looked up. For so few, numpy's calls take longer than their arithmetic. So the search is
compiled, and where it could not be built it is plain Python.

Shape letters: t slot, m candidate tokens of all slots, slot by slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heapreplace
from math import inf, log
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from retort.data.vocabulary import EOS
from retort.search import native
from retort.search.ngram_scores import Pruning, Scorer
from retort.search.texts import Text

SMALL = 1e-100
"""Probabilities below this are scaled, before they are 0."""


_total = attrgetter("total")


class Slot(NamedTuple):
    """What a slot may hold. Tokens that are no candidates are impossible."""

    blank: float
    """Probability of the blank."""
    candidates: list[tuple[int, float, float]]
    """Tokens without the blank, their probabilities and the logs of these, the most probable first."""
    probs: dict[int, float]
    """Probabilities of the same tokens."""


class Prefix(Text):
    """A text that was in the beam. Its probabilities are set while it is."""

    __slots__ = ("alive", "blank", "both", "ends", "total")
    alive: bool
    """Whether it is in the beam."""
    blank: float
    """Probability with a blank in the last slot, up to the beam's scale."""
    ends: float
    """The same with its last token there."""
    both: float
    """The sum."""
    total: float
    """log of the sum, plus ``ngrams``."""


def prefix_beam(
    blank_t: np.ndarray,
    row_m: np.ndarray,
    token_m: np.ndarray,
    log_prob_m: np.ndarray,
    scorer: Scorer,
    pruning: Pruning,
) -> tuple[list[int], float]:
    """The best text, and its score: log of its probability over the candidates, plus the scorer's.

    ``blank_t`` are the probabilities of the blank in each slot, ``row_m`` the slots of the candidates, in the order of
    ``most_probable``.
    """
    if functions := native.library():
        return native.prefix_beam(functions, blank_t, row_m, token_m, log_prob_m, scorer=scorer, pruning=pruning)
    return plain_prefix_beam(slots_of(blank_t, row_m, token_m, log_prob_m), scorer, pruning)


def slots_of(blank_t: np.ndarray, row_m: np.ndarray, token_m: np.ndarray, log_prob_m: np.ndarray) -> list[Slot]:
    """The slots of a sentence."""
    slots = [Slot(blank, [], {}) for blank in blank_t.tolist()]
    probs = np.exp(log_prob_m).tolist()
    for row, token, prob, log_prob in zip(row_m.tolist(), token_m.tolist(), probs, log_prob_m.tolist(), strict=True):
        _, candidates, probs_of = slots[row]
        candidates.append((token, prob, log_prob))
        probs_of[token] = prob
    return slots


def plain_prefix_beam(slots: Sequence[Slot], scorer: Scorer, pruning: Pruning) -> tuple[list[int], float]:
    """The same in Python."""
    root = Prefix.empty(scorer)
    root.alive, root.blank, root.ends, root.both, root.total = True, 1.0, 0.0, 1.0, 0.0
    beam, log_scale = [root], 0.0
    for slot in slots:
        stayed = _stayed(beam, slot)
        new, floor = _grown(beam, slot.candidates, [s[2] for s in stayed], scorer=scorer, pruning=pruning)
        beam = _kept(beam, stayed, new, floor=floor, beam_size=pruning.beam_size)
        if beam[0].both < SMALL and 0 < (largest := max(prefix.both for prefix in beam)) < SMALL:
            log_scale += _scaled(beam, largest)
    score, text = _ended(beam, scorer)
    tokens = text.tokens()
    root.release()
    return tokens, score + log_scale


def _stayed(beam: list[Prefix], slot: Slot) -> list[tuple[float, float, float]]:
    """``blank``, ``ends`` and ``total`` of the beam's texts one slot later, if none is new."""
    slot_blank, _, probs = slot
    stayed = []
    for prefix in beam:
        blank, ends, token = prefix.both * slot_blank, 0.0, prefix.token
        if token in probs:
            prob, parent = probs[token], prefix.parent
            ends = prefix.ends * prob
            # a token that equals the last one needs a blank between them
            if parent.alive:  # type: ignore[union-attr]  # the empty text's token is in no slot
                ends += (parent.blank if parent.token == token else parent.both) * prob  # type: ignore[union-attr]
        both = blank + ends
        stayed.append((blank, ends, log(both) + prefix.ngrams if both else -inf))
    return stayed


def _grown(
    beam: list[Prefix],
    candidates: list[tuple[int, float, float]],
    totals: list[float],
    scorer: Scorer,
    pruning: Pruning,
) -> tuple[list[Prefix], float]:
    """Texts with a token more that are not in the beam, and the total below which none can be in the new beam.

    ``totals`` are those of the beam's texts.
    """
    size, threshold, largest = pruning.beam_size, pruning.threshold, scorer.largest
    best = max(totals)
    floor = best - threshold
    if full := len(totals) == size:
        heapify(totals)
        floor = max(floor, totals[0])
    new = []
    for prefix in beam:
        last, before, children, context = prefix.token, prefix.total, prefix.children, prefix.context
        least = floor - before - largest
        for token, prob, log_prob in candidates:
            if log_prob < least:
                break
            if token not in children:
                child = None
                if context is None:
                    context = prefix.known_context(scorer)
                score = context.scores[token] if token in context.scores else scorer.score(context, token)
            elif (child := children[token]).alive:
                continue  # _stayed has grown it
            else:
                score = child.ngrams - prefix.ngrams
            if token == last:
                if not (ends := prefix.blank * prob):
                    continue
                total = log(ends) + prefix.ngrams + score
            else:
                ends, total = prefix.both * prob, before + log_prob + score
            if total < floor:
                continue
            if child is None:
                child = children[token] = Prefix(token, prefix, prefix.ngrams + score)
                child.alive = False
            child.blank, child.ends, child.both, child.total = 0.0, ends, ends, total
            new.append(child)
            # the beam_size-th best so far is a floor for what is yet to come
            if full:
                if total > totals[0]:
                    heapreplace(totals, total)
            else:
                totals.append(total)
                if full := len(totals) == size:
                    heapify(totals)
            # conditions, as calls of max take longer than all else here
            if total > best:
                best = total
                if best - threshold > floor:
                    floor = best - threshold
            if full and totals[0] > floor:
                floor = totals[0]
            least = floor - before - largest
    return new, floor


def _kept(
    beam: list[Prefix], stayed: list[tuple[float, float, float]], new: list[Prefix], floor: float, beam_size: int
) -> list[Prefix]:
    """The next beam."""
    kept = []
    for prefix, (blank, ends, total) in zip(beam, stayed, strict=True):
        if total < floor:
            prefix.alive = False
        else:
            prefix.blank, prefix.ends, prefix.both, prefix.total = blank, ends, blank + ends, total
            kept.append(prefix)
    for prefix in new:
        if prefix.total >= floor:
            prefix.alive = True
            kept.append(prefix)
    if len(kept) > beam_size:
        kept.sort(key=_total, reverse=True)
        for prefix in kept[beam_size:]:
            prefix.alive = False
        del kept[beam_size:]
    return kept


def _scaled(beam: list[Prefix], by: float) -> float:
    """Divide the probabilities of the beam, and return the log of the divisor."""
    log_scale = log(by)
    for prefix in beam:
        prefix.blank, prefix.ends, prefix.both = prefix.blank / by, prefix.ends / by, prefix.both / by
        prefix.total -= log_scale
    return log_scale


def _ended(beam: list[Prefix], scorer: Scorer) -> tuple[float, Prefix]:
    """The best of the texts if all of them end, behind its score."""
    best = -inf, beam[0]
    for prefix in sorted(beam, key=_total, reverse=True):
        if prefix.total <= best[0]:
            break  # eos scores 0 at most
        if (score := prefix.total + prefix.score(EOS, scorer)) > best[0]:
            best = score, prefix
    return best
