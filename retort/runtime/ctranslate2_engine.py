"""Bundles of autoregressive Transformers, run by CTranslate2."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import ctranslate2

from retort.data.vocabulary import BLANK, BOS, MASK, PAD
from retort.errors import RetortError
from retort.runtime.bundle import Bundle, allows_unknown, check_search
from retort.runtime.system import Decoded, Scored, System, distinct
from retort.search.tokens import output_limit


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
            # CTranslate2 gives a batch the candidates of all its lines; alone, a line's output depends on itself only
            self.batch_size = 1
        # it would overrule the threads that are asked for; Snakemake gives it the cores that a job reserves
        os.environ.pop("MKL_NUM_THREADS", None)
        try:
            self._translator = ctranslate2.Translator(
                str(bundle.directory), device="cpu", inter_threads=at_once, intra_threads=threads
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
        beam = {key: search[key] for key in ("beam_size", "length_penalty")} if search["kind"] == "beam" else {}
        self._options = {
            "beam_size": 1,
            **beam,
            "suppress_sequences": [[self._target_pieces[i]] for i in (PAD, BOS, MASK, BLANK)],
            "disable_unk": not allows_unknown(search),
            "use_vmap": self.has_shortlist,
            "max_input_length": 0,
            "min_decoding_length": 0,
        }

    def decode(self, sources: Sequence[Sequence[int]]) -> list[Decoded]:
        return [_decoded(ranked[0], limit) for ranked, limit in self._ranked(sources, 1)]

    @property
    def outputs_key(self) -> str | None:
        return "beam_size" if self.search["kind"] == "beam" else None

    def decode_scored(self, sources: Sequence[Sequence[int]], count: int) -> list[list[Scored]]:
        """CTranslate2 divides a beam's scores by its own function of the length. Here they are as in torch; the
        order is that of CTranslate2. Outputs that are equal once they are cut are one."""
        lists = self._ranked(sources, count)
        pairs = [(source, tokens) for source, (ranked, _) in zip(sources, lists, strict=True) for tokens in ranked]
        results = iter(self._log_probs(pairs))
        return [distinct([self._scored(tokens, limit, next(results)) for tokens in ranked]) for ranked, limit in lists]

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
        penalty = ((5 + len(log_probs)) / 6) ** self.search.get("length_penalty", 0.0)
        return Scored(decoded, sum(log_probs) / penalty, log_probs[: len(decoded.tokens)])

    def _ranked(self, sources: Sequence[Sequence[int]], count: int) -> list[tuple[list[list[int]], int]]:
        """The ``count`` best outputs of each source, and the limit of their lengths; one without an end has one token
        more."""
        limits = [output_limit(len(tokens), self.search["max_ratio"], self.max_length) for tokens in sources]
        lists = self._outputs(sources, max(limits), count)
        for i, (source, limit) in enumerate(zip(sources, limits, strict=True)):
            if limit < max(limits) and any(len(tokens) > limit for tokens in lists[i]):
                # a batch has one limit; what went beyond its own is decoded again with that
                lists[i] = self._outputs([source], limit, count)[0]
        return [*zip(lists, limits, strict=True)]

    def _outputs(self, sources: Sequence[Sequence[int]], limit: int, count: int) -> list[list[list[int]]]:
        """The ``count`` best outputs of each source; one without an end has ``limit`` tokens and one more."""
        results = self._translator.translate_batch(
            [self._pieces(tokens) for tokens in sources],
            max_decoding_length=limit + 1,
            num_hypotheses=count,
            **self._options,
        )
        return [[[self._numbers[piece] for piece in pieces] for pieces in result.hypotheses] for result in results]

    def _pieces(self, source: Sequence[int]) -> list[str]:
        return [self._source_pieces[i] for i in source]


def _decoded(tokens: list[int], limit: int) -> Decoded:
    return Decoded(tokens[:limit], len(tokens) > limit, min(len(tokens), limit) + 1)


def open_bundle(bundle: Bundle, search: Mapping[str, Any], threads: int, at_once: int) -> CTranslate2System:
    """The system of a bundle, which decodes ``at_once`` calls at the same time; further ones wait."""
    return CTranslate2System(bundle, search, threads, at_once)
