"""Slots of several candidate lengths per source, filled in one pass.

Shape letters: b sources, c length candidates per source, n rows (one per source and candidate), t slot, s source
position, d width, m slots that hold mask, v vocabulary, k most probable tokens per slot, l length class.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from retort.config import Argmax, LengthParallel
from retort.data.vocabulary import EOS, MASK, PAD, UNK
from retort.models.parallel import ParallelModel, length_class, most_probable_lengths
from retort.search.base import Hypothesis
from retort.search.odd import best_without_repeats
from retort.search.tokens import TOKENS_PER_SLOT, first_of_repeats, of_text, text_of, without_repeats


class LengthCandidates:
    """Rows of slots, with the encoder's output repeated for them."""

    def __init__(
        self,
        model: ParallelModel,
        memory_bsd: Tensor,
        memory_bias: Tensor,
        source_n: Tensor,
        length_n: Tensor,
        length_log_prob_n: Tensor | None = None,
    ) -> None:
        """``source_n``: index of each row's source, ascending; every source has at least one row. ``length_n``: target
        length of each row with eos; the attribute of this name is the number of its slots. ``length_log_prob_n``: log
        p(length) in nats; None: all lengths are alike."""
        self.model = model
        self.source_n = source_n
        self.length_log_prob_n = torch.zeros(len(source_n)) if length_log_prob_n is None else length_log_prob_n
        self.length_n = model.slot_count(length_n)
        self.memory_nsd, self.memory_bias = repeated_memory(memory_bsd, memory_bias, source_n)
        place_t = torch.arange(int(self.length_n.max()), device=length_n.device)
        self.real_nt = place_t < self.length_n[:, None]
        self.before_last_nt = place_t < self.length_n[:, None] - 1

    @classmethod
    def most_probable(cls, model: ParallelModel, source_bs: Tensor, count: int) -> LengthCandidates:
        """Candidates of the ``count`` most probable lengths of each source."""
        memory_bsd, memory_bias = model.encode(source_bs)
        lengths_bc = most_probable_lengths(model, source_bs, memory_bsd, count=count)
        source_n = torch.arange(len(source_bs), device=source_bs.device).repeat_interleave(lengths_bc.shape[1])
        return cls.of_lengths(
            model,
            source_bs,
            memory_bsd=memory_bsd,
            memory_bias=memory_bias,
            source_n=source_n,
            length_n=lengths_bc.flatten(),
        )

    @classmethod
    def of_lengths(
        cls,
        model: ParallelModel,
        source_bs: Tensor,
        memory_bsd: Tensor,
        memory_bias: Tensor,
        source_n: Tensor,
        length_n: Tensor,
    ) -> LengthCandidates:
        """Candidates of these lengths of these sources, with the model's log p(length)."""
        log_probs_bl = torch.log_softmax(model.predict_length(source_bs, memory_bsd).float(), -1)
        class_n = length_class(model, source_bs[source_n], length_n)
        return cls(model, memory_bsd, memory_bias, source_n, length_n, log_probs_bl[source_n, class_n])

    def masked_slots(self) -> Tensor:
        """Decoder input [n, t]: mask in every slot, pad after them."""
        return torch.where(self.real_nt, MASK, PAD)

    def log_probs(self, tokens_nt: Tensor, allow_unknown: bool) -> Tensor:
        """One pass: log-probabilities [m, v] of the masked slots' tokens, in nats, float32.

        Only the last slot may hold eos, unless the model's training lets it be anywhere: elsewhere eos would be deleted
        from the output, and a word with it. Where a model would put it, all other tokens are improbable. No slot holds
        unk unless it is allowed. The probabilities of both count in the sum of all.
        """
        states_ntd = self.model.decode_tokens(tokens_nt, self.memory_nsd, self.memory_bias)
        masked_nt = tokens_nt == MASK
        logits_mv = self.model.logits(states_ntd[masked_nt]).float()
        logits_mv[:, self.model.forbidden] = float("-inf")
        log_probs_mv = torch.log_softmax(logits_mv, -1)
        if not allow_unknown:
            log_probs_mv[:, UNK] = float("-inf")
        if not self.model.eos_anywhere:
            log_probs_mv[:, EOS].masked_fill_(self.before_last_nt[masked_nt], float("-inf"))
        return log_probs_mv

    def fill(self, options: Argmax | LengthParallel) -> list[list[Hypothesis]]:
        """Distinct outputs of one pass, in the order of ``ranked``; ``options.deduplicate`` decides what happens to
        repeated tokens."""
        tokens_nt = self.masked_slots()
        log_probs_mv = self.log_probs(tokens_nt, options.allow_unknown)
        if options.deduplicate == "odd":
            log_probs_mk, tokens_mk = log_probs_mv.topk(min(TOKENS_PER_SLOT, log_probs_mv.shape[1]), -1)
            tokens_nt, log_probs_nt = best_without_repeats(
                self._in_slots(log_probs_mk),
                self._in_slots(tokens_mk),
                length_n=self.length_n,
                penalty=options.repeat_penalty,
            )
        else:
            best_m, token_m = log_probs_mv.max(-1)
            tokens_nt = self._in_slots(token_m)
            log_probs_nt = self._in_slots(best_m)
        nbest_lists = self.ranked(tokens_nt, log_probs_nt, passes=1, length_weight=options.length_weight)
        if options.deduplicate == "remove":
            nbest_lists = [[without_neighbours(h) for h in best] for best in nbest_lists]
        return [distinct(best) for best in nbest_lists]

    def ranked(
        self, tokens_nt: Tensor, log_probs_nt: Tensor, passes: int, length_weight: float = 0.0
    ) -> list[list[Hypothesis]]:
        """N-best lists of filled slots, highest score first: mean log-probability per slot, in nats, plus
        ``length_weight`` x log p(length).

        ``log_probs_nt`` (nats) is 0 after a row's slots.
        """
        score_n = log_probs_nt.sum(1) / self.length_n
        if length_weight:
            score_n = score_n + length_weight * self.length_log_prob_n
        nbest_lists: list[list[Hypothesis]] = [[] for _ in range(int(self.source_n[-1]) + 1)]
        columns = (self.source_n, tokens_nt, score_n, log_probs_nt)
        for source, tokens, score, log_probs in zip(*(column.tolist() for column in columns), strict=True):
            hypothesis = Hypothesis(
                text_of(tokens), score, truncated=False, passes=passes, log_probs=of_text(tokens, log_probs)
            )
            nbest_lists[source].append(hypothesis)
        return [sorted(hypotheses, key=lambda h: -h.score) for hypotheses in nbest_lists]

    def _in_slots(self, x_m: Tensor) -> Tensor:
        """Values [m, ...] of all slots at their positions [n, t, ...], and 0 (pad) elsewhere."""
        x_nt = x_m.new_zeros(*self.real_nt.shape, *x_m.shape[1:])
        x_nt[self.real_nt] = x_m
        return x_nt


def without_neighbours(hypothesis: Hypothesis) -> Hypothesis:
    """The hypothesis without tokens that equal the one before them."""
    tokens, log_probs = hypothesis.tokens, hypothesis.log_probs
    firsts = None if log_probs is None else first_of_repeats(tokens, log_probs)
    return replace(hypothesis, tokens=without_repeats(tokens), log_probs=firsts)


def distinct(hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    """The hypotheses without those whose tokens occurred before."""
    first: dict[tuple[int, ...], Hypothesis] = {}
    for hypothesis in hypotheses:
        first.setdefault(tuple(hypothesis.tokens), hypothesis)
    return list(first.values())


def repeated_memory(memory_bsd: Tensor, memory_bias: Tensor, source_n: Tensor) -> tuple[Tensor, Tensor]:
    """Encoder output [n, s, d] and its bias [n * heads, 1, s], repeated for the rows of these sources."""
    bias = memory_bias.view(len(memory_bsd), -1, *memory_bias.shape[1:])
    return memory_bsd[source_n], bias[source_n].flatten(0, 1)
