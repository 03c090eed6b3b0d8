"""Slots of several lengths for each source, filled by a decoder's graph.

Shape letters: b sources, c length candidates of a source, n rows (a candidate of a source each), t slot, m memory
position, d width, l length class, v tokens, k most probable tokens of a slot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retort.data.limits import LEAST_LENGTH
from retort.data.vocabulary import EOS, MASK, PAD
from retort.runtime.names import DECODER, ENCODER, LENGTHS, LOGITS, MEMORY, SLOTS, TOKENS
from retort.runtime.onnx_engine import Graphs
from retort.runtime.search.odd import without_repeats_of
from retort.runtime.system import Decoded, Scored, distinct
from retort.search.tokens import TOKENS_PER_SLOT, first_of_repeats, of_text, text_of, without_repeats


class Encoded:
    """A batch of sources behind the encoder."""

    def __init__(self, graphs: Graphs, sources: Sequence[Sequence[int]]) -> None:
        self.graphs = graphs
        outputs, self.source_length_b = graphs.encoded(ENCODER, sources)
        self.memory_bmd, self.length_scores_bl = outputs[MEMORY], outputs[LOGITS]
        self.memory_length_b = self.source_length_b + np.int32(graphs.facts["length_slot"])

    def most_probable_lengths(self, count: int) -> np.ndarray:
        """The ``count`` most probable target lengths [b, c], or all of fewer, eos included, best first, each up to the
        model's maximum. One may be 1, of several each is at least LEAST_LENGTH."""
        facts = self.graphs.facts
        offset_b1 = 0 if facts["length_slot"] else self.source_length_b[:, None] - facts["length_range"]
        least = 1 if count == 1 else LEAST_LENGTH
        if count == 1:
            classes_bc = self.length_scores_bl.argmax(1)[:, None]
        else:
            length_bl = offset_b1 + np.arange(self.length_scores_bl.shape[1])[None]
            scores_bl = np.where(length_bl < least, -np.inf, self.length_scores_bl)
            classes_bc = np.argsort(-scores_bl, axis=1, kind="stable")[:, :count]
        return np.clip(classes_bc + offset_b1, least, self.graphs.max_length)

    def length_log_probs(self, source_n: np.ndarray, length_n: np.ndarray) -> np.ndarray:
        """log p(length) [n] of these target lengths of these sources, in nats."""
        facts = self.graphs.facts
        offset_n = 0 if facts["length_slot"] else self.source_length_b[source_n] - facts["length_range"]
        class_n = np.clip(length_n - offset_n, 0, self.length_scores_bl.shape[1] - 1)
        normaliser_b = normalisers(self.length_scores_bl[:, None])[:, 0]
        return self.length_scores_bl[source_n, class_n] - normaliser_b[source_n]  # type: ignore[no-any-return]


class Rows:
    """Rows of slots, with the memory of their sources."""

    def __init__(self, encoded: Encoded, source_n: np.ndarray, length_n: np.ndarray) -> None:
        """``source_n`` are the numbers of the rows' sources, ascending, ``length_n`` target lengths with eos."""
        graphs = encoded.graphs
        self.graphs, self.source_n = graphs, source_n
        self._encoded, self._length_n = encoded, length_n
        multiplied = length_n.astype(np.float32) * np.float32(graphs.facts["length_multiplier"]) + np.float32(0.5)
        self.count_n = np.minimum(multiplied.astype(np.int32), graphs.max_length)
        """Slots of each row."""
        alone = len(source_n) == len(encoded.memory_bmd)
        self._memory = {
            MEMORY: encoded.memory_bmd if alone else encoded.memory_bmd[source_n],
            LENGTHS: encoded.memory_length_b if alone else encoded.memory_length_b[source_n],
            SLOTS: self.count_n,
        }
        self.real_nt = np.arange(int(self.count_n.max())) < self.count_n[:, None]

    @classmethod
    def most_probable(cls, graphs: Graphs, sources: Sequence[Sequence[int]], count: int) -> Rows:
        """The ``count`` most probable lengths of each source."""
        encoded = Encoded(graphs, sources)
        length_bc = encoded.most_probable_lengths(count)
        return cls(encoded, np.repeat(np.arange(len(sources)), length_bc.shape[1]), length_bc.flatten())

    def masked_slots(self) -> np.ndarray:
        """Decoder input [n, t]: mask in every slot, pad beyond them."""
        return np.where(self.real_nt, MASK, PAD)

    def scores(self, tokens_nt: np.ndarray) -> np.ndarray:
        """One pass: scores [n, t, v] of the tokens that slots may hold, and of unk."""
        if self.graphs.facts["pad_input"]:
            tokens_nt = np.where(tokens_nt == MASK, PAD, tokens_nt)
        return self.graphs.run(DECODER, self._memory | {TOKENS: tokens_nt.astype(np.int64)})[LOGITS]

    def eligible(self, scores_ntv: np.ndarray) -> np.ndarray:
        """The scores with -inf for unk, and for eos before a row's last slot, unless the training lets it be
        anywhere."""
        scores_ntv = scores_ntv.copy()
        self.graphs.forbid_unknown(scores_ntv)
        # bundles from before this rule do not have the fact
        if self.graphs.facts.get("eos_anywhere", True):
            return scores_ntv
        eos = int(np.searchsorted(self.graphs.tokens, EOS))
        before_last_nt = np.arange(scores_ntv.shape[1]) < self.count_n[:, None] - 1
        scores_ntv[:, :, eos][before_last_nt] = -np.inf
        return scores_ntv

    def best(self, tokens_nt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One pass: the best token of each slot and its log-probability, both [n, t]."""
        scores_ntv = self.scores(tokens_nt)
        best_nt = self.eligible(scores_ntv).argmax(2)
        chosen_nt = np.take_along_axis(scores_ntv, best_nt[:, :, None], 2)[:, :, 0]
        return self.graphs.tokens[best_nt], chosen_nt - normalisers(scores_ntv)

    def chosen(
        self, tokens_nt: np.ndarray, log_probs_nt: np.ndarray, passes: int, length_weight: float = 0.0
    ) -> list[Decoded]:
        """Of each source's rows the one with the best mean log-probability of a slot plus ``length_weight`` x
        log p(length)."""
        score_n = self._scores(log_probs_nt, length_weight)
        best: dict[int, int] = {}
        for row, source in enumerate(self.source_n.tolist()):
            if source not in best or score_n[row] > score_n[best[source]]:
                best[source] = row
        return [Decoded(text_of(tokens_nt[row, : self.count_n[row]].tolist()), False, passes) for row in best.values()]

    def ranked(
        self, tokens_nt: np.ndarray, log_probs_nt: np.ndarray, passes: int, length_weight: float = 0.0
    ) -> list[list[Scored]]:
        """All rows of each source, by the same score."""
        lists: list[list[Scored]] = [[] for _ in range(int(self.source_n[-1]) + 1)]
        scores = self._scores(log_probs_nt, length_weight).tolist()
        for source, tokens_t, log_probs_t, count, score in zip(
            self.source_n.tolist(), tokens_nt, log_probs_nt, self.count_n.tolist(), scores, strict=True
        ):
            tokens, log_probs = tokens_t[:count].tolist(), log_probs_t[:count].tolist()
            lists[source].append(Scored(Decoded(text_of(tokens), False, passes), score, of_text(tokens, log_probs)))
        return [sorted(scored, key=lambda s: -s.score) for scored in lists]

    def _scores(self, log_probs_nt: np.ndarray, length_weight: float) -> np.ndarray:
        score_n = np.where(self.real_nt, log_probs_nt, 0).sum(1) / self.count_n
        if length_weight:
            score_n += np.float32(length_weight) * self._encoded.length_log_probs(self.source_n, self._length_n)
        return score_n  # type: ignore[no-any-return]


def filled_scored(rows: Rows, options: Mapping[str, Any]) -> list[list[Scored]]:
    """The distinct outputs of one pass over all rows, repeated tokens treated according to ``deduplicate``."""
    if options["deduplicate"] == "odd":
        tokens_nt, log_probs_nt = _without_repeats(rows, options["repeat_penalty"])
    else:
        tokens_nt, log_probs_nt = rows.best(rows.masked_slots())
    ranked = rows.ranked(tokens_nt, log_probs_nt, 1, length_weight(options))
    if options["deduplicate"] == "remove":
        ranked = [[_with_repeats_removed(scored) for scored in best] for best in ranked]
    return [distinct(best) for best in ranked]


def _with_repeats_removed(scored: Scored) -> Scored:
    tokens = scored.decoded.tokens
    decoded = scored.decoded._replace(tokens=without_repeats(tokens))
    return scored._replace(decoded=decoded, log_probs=first_of_repeats(tokens, scored.log_probs))


def filled(rows: Rows, options: Mapping[str, Any]) -> list[Decoded]:
    """The output of one pass, repeats treated according to ``deduplicate``."""
    weight = length_weight(options)
    if options["deduplicate"] == "odd":
        decoded = rows.chosen(*_without_repeats(rows, options["repeat_penalty"]), 1, weight)
    elif len(rows.source_n) == rows.source_n[-1] + 1:
        # nothing to choose among: no probability is needed
        tokens_nt = rows.graphs.tokens[rows.eligible(rows.scores(rows.masked_slots())).argmax(2)]
        decoded = rows.chosen(tokens_nt, np.zeros(tokens_nt.shape, np.float32), 1)
    else:
        decoded = rows.chosen(*rows.best(rows.masked_slots()), 1, weight)
    if options["deduplicate"] == "remove":
        return [d._replace(tokens=without_repeats(d.tokens)) for d in decoded]
    return decoded


def length_weight(options: Mapping[str, Any]) -> float:
    """Weight of log p(length); bundles from before this option do not have it."""
    return float(options.get("length_weight", 0.0))


def normalisers(scores_ntv: np.ndarray) -> np.ndarray:
    """log of the sum of exponentials [n, t]."""
    top_nt = scores_ntv.max(2)
    summed_nt = np.exp(scores_ntv - top_nt[:, :, None]).sum(2)
    return top_nt + np.log(summed_nt)  # type: ignore[no-any-return]


def _without_repeats(rows: Rows, penalty: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and their log-probabilities [n, t] of the best outputs without repeats."""
    scores_ntv = rows.scores(rows.masked_slots())
    k = min(TOKENS_PER_SLOT, scores_ntv.shape[2])
    eligible_ntv = rows.eligible(scores_ntv)
    top_ntk = np.argpartition(-eligible_ntv, k - 1, axis=2)[:, :, :k]
    scores_ntk = np.take_along_axis(eligible_ntv, top_ntk, 2)
    order_ntk = np.argsort(-scores_ntk, axis=2, kind="stable")
    top_ntk, scores_ntk = (np.take_along_axis(x, order_ntk, 2) for x in (top_ntk, scores_ntk))
    log_probs_ntk = scores_ntk - normalisers(scores_ntv)[:, :, None]
    tokens_nt, log_probs_nt = np.full(rows.real_nt.shape, PAD), np.zeros(rows.real_nt.shape, np.float32)
    for row, count in enumerate(rows.count_n.tolist()):
        candidates_tk = rows.graphs.tokens[top_ntk[row, :count]]
        best_t, log_probs_t = without_repeats_of(log_probs_ntk[row, :count], candidates_tk, penalty)
        tokens_nt[row, :count], log_probs_nt[row, :count] = best_t, log_probs_t
    return tokens_nt, log_probs_nt
