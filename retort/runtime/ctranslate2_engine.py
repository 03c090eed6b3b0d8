"""Bundles of autoregressive Transformers, run by CTranslate2."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ctranslate2

from retort.data.vocabulary import EOS, FORBIDDEN
from retort.errors import RetortError
from retort.runtime.bundle import Bundle, allows_unknown, check_search
from retort.runtime.system import Decoded, Scored, System, by_length, distinct
from retort.search.tokens import length_penalty, output_limit

LENGTH_PENALTY = -1
"""CTranslate2 ranks a beam's outputs by log P / length ** penalty, and gives as many as the beam has rows. With this
penalty it leaves out the longest and least probable ones, so unfinished ones do not displace those that ended before,
nor is the one with torch's best score left out. Penalty 0 would end the search earlier."""


class Found(NamedTuple):
    """What CTranslate2 finds for a source: outputs in pieces, those of a beam with that of their end, and scores."""

    outputs: list[list[str]]
    scores: list[float]


class Ranked(NamedTuple):
    """The best outputs of a source; one that hit the limit of their length has no end and one token more."""

    outputs: list[list[int]]
    limit: int


class CTranslate2System(System):
    """A model that decodes from left to right."""

    engine = "ctranslate2"

    def __init__(self, bundle: Bundle, search: Mapping[str, Any], threads: int, at_once: int) -> None:
        facts = bundle.facts
        model, vocabulary = facts["model"], bundle.vocabulary
        super().__init__(
            vocabulary, search, facts["searches"], facts["precision"], model["max_length"], model["truncate_sources"]
        )
        self._directory = bundle.directory
        # bundles that were exported before there were shortlists do not name them
        self.has_shortlist = facts.get("shortlist") is not None
        if self.has_shortlist:
            # CTranslate2 gives lines together the candidates of all; alone, a line's output depends on itself only
            self.batch_size = 1
        # it would overrule what is asked for here; Snakemake gives it the cores that a job reserves
        os.environ.pop("MKL_NUM_THREADS", None)
        self.lines_at_once = threads
        try:
            # two threads that share each product made models of width 256 four times slower, and beams eleven times
            self._translator = ctranslate2.Translator(
                str(bundle.directory), device="cpu", inter_threads=threads * at_once, intra_threads=1
            )
        except (RuntimeError, ValueError) as error:
            raise RetortError(
                f"{bundle.directory}: CTranslate2 cannot load it ({error}); export the system again"
            ) from None
        self._source_pieces, self._target_pieces = vocabulary.source_pieces, vocabulary.target_pieces
        self._numbers = {piece: i for i, piece in enumerate(self._target_pieces)}
        self.choose(search)

    def choose(self, search: Mapping[str, Any]) -> None:
        check_search(search, self.kinds, self._directory)
        super().choose(search)
        self._length_penalty = search.get("length_penalty", 0.0)
        self._options = {
            "beam_size": 1,
            "suppress_sequences": [[self._target_pieces[i]] for i in FORBIDDEN],
            "disable_unk": not allows_unknown(search),
            "use_vmap": self.has_shortlist,
            "max_input_length": 0,
            "min_decoding_length": 0,
        }
        if self.most_outputs > 1:
            self._options |= {
                "beam_size": self.most_outputs,
                "num_hypotheses": self.most_outputs,
                "length_penalty": LENGTH_PENALTY,
                "return_scores": True,
                "return_end_token": True,
            }

    def decode(self, sources: Sequence[Sequence[int]]) -> list[Decoded]:
        ranked = by_length(sources, lambda group: self._ranked(group, 1), self.lines_at_once)
        return [_decoded(outputs[0], limit) for outputs, limit in ranked]

    @property
    def outputs_key(self) -> str | None:
        return "beam_size" if self.search["kind"] == "beam" else None

    def decode_scored(self, sources: Sequence[Sequence[int]], count: int) -> list[list[Scored]]:
        """Scores and their order are those of torch. Outputs that are equal once they are cut are one."""
        return by_length(sources, lambda group: self._scored_together(group, count), self.lines_at_once)

    def _scored_together(self, sources: Sequence[Sequence[int]], count: int) -> list[list[Scored]]:
        lists = self._ranked(sources, count)
        pairs = [(source, tokens) for source, (outputs, _) in zip(sources, lists, strict=True) for tokens in outputs]
        results = iter(self._log_probs(pairs))
        scored = [[self._scored(tokens, limit, next(results)) for tokens in outputs] for outputs, limit in lists]
        return [distinct(sorted(ranked, key=lambda s: (s.decoded.truncated, -s.score))) for ranked in scored]

    def _log_probs(self, pairs: Sequence[tuple[Sequence[int], list[int]]]) -> list[list[float]]:
        """Of the tokens of an output and of eos, for each source and output."""
        try:
            results = self._translator.score_batch(
                [self._pieces(source) for source, _ in pairs],
                [[self._target_pieces[i] for i in tokens] for _, tokens in pairs],
                max_input_length=0,
            )
        except RuntimeError as error:
            # bundles once had no position for what comes after an output of max_length tokens
            if "position encodings" not in str(error):
                raise
            raise RetortError(
                f"{self._directory}: an earlier export, which has no scores for outputs as long as its limit of "
                f"{self.max_length} tokens; export the system again, or translate without scores and --n-best"
            ) from None
        return [result.log_probs for result in results]

    def _scored(self, tokens: list[int], limit: int, log_probs: list[float]) -> Scored:
        """``log_probs`` are of the tokens and of eos, which an output that hit its limit does not have."""
        decoded = _decoded(tokens, limit)
        if decoded.truncated:
            log_probs = log_probs[: len(tokens)]
        score = sum(log_probs) / length_penalty(len(log_probs), self._length_penalty)
        return Scored(decoded, score, log_probs[: len(decoded.tokens)])

    def _ranked(self, sources: Sequence[Sequence[int]], count: int) -> list[Ranked]:
        """The ``count`` best outputs of each source."""
        limits = [output_limit(len(tokens), self.search["max_ratio"], self.max_length) for tokens in sources]
        longest = max(limits)
        found = self._found(sources, longest)
        # A batch has one limit. What came to its own is decoded again with that, as it would have been alone. The
        # outputs of a source include one of its last step.
        again: dict[int, list[int]] = {}
        for i, limit in enumerate(limits):
            if limit < longest and any(len(pieces) > limit for pieces in found[i].outputs):
                again.setdefault(limit, []).append(i)
        for limit, rows in again.items():
            for i, outputs in zip(rows, self._found([sources[i] for i in rows], limit), strict=True):
                found[i] = outputs
        return [Ranked(self._best(*outputs, count), limit) for outputs, limit in zip(found, limits, strict=True)]

    def _found(self, sources: Sequence[Sequence[int]], limit: int) -> list[Found]:
        """The outputs of each source; those without an end have ``limit`` tokens and one more."""
        results = self._translator.translate_batch(
            [self._pieces(tokens) for tokens in sources], max_decoding_length=limit + 1, **self._options
        )
        # each access converts the whole list
        return [Found(result.hypotheses, result.scores) for result in results]

    def _best(self, outputs: list[list[str]], scores: list[float], count: int) -> list[list[int]]:
        """The tokens of the ``count`` best outputs by torch's score; those without an end are last."""
        end = self._target_pieces[EOS]
        if len(outputs) > 1:
            own = [self._own_score(score, len(pieces)) for pieces, score in zip(outputs, scores, strict=True)]
            ranks = sorted(range(len(own)), key=lambda i: (outputs[i][-1] != end, -own[i]))
            outputs = [outputs[i] for i in ranks[:count]]
        return [[self._numbers[piece] for piece in pieces if piece != end] for pieces in outputs]

    def _own_score(self, score: float, length: int) -> float:
        """The score of ``retort.search`` for one of CTranslate2; the length counts eos."""
        return score * length**LENGTH_PENALTY / length_penalty(length, self._length_penalty)

    def _pieces(self, source: Sequence[int]) -> list[str]:
        return [self._source_pieces[i] for i in source]


def _decoded(tokens: list[int], limit: int) -> Decoded:
    return Decoded(tokens[:limit], len(tokens) > limit, min(len(tokens), limit) + 1)


def open_bundle(bundle: Bundle, search: Mapping[str, Any], threads: int, at_once: int) -> CTranslate2System:
    """The system of a bundle, which decodes ``at_once`` calls at the same time; further ones wait."""
    return CTranslate2System(bundle, search, threads, at_once)
