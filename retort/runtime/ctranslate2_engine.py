"""Bundles of autoregressive Transformers, run by CTranslate2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ctranslate2

from retort.data.vocabulary import BLANK, BOS, MASK, PAD
from retort.errors import RetortError
from retort.runtime.bundle import Bundle, allows_unknown, check_search
from retort.runtime.search.tokens import output_limit
from retort.runtime.system import Decoded, System


class CTranslate2System(System):
    """A model that decodes from left to right."""

    engine = "ctranslate2"

    def __init__(self, bundle: Bundle, search: Mapping[str, Any], threads: int) -> None:
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
        try:
            self._translator = ctranslate2.Translator(
                str(bundle.directory), device="cpu", inter_threads=1, intra_threads=threads
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
        limits = [output_limit(len(tokens), self.search["max_ratio"], self.max_length) for tokens in sources]
        outputs = self._tokens(sources, max(limits))
        decoded = []
        for source, tokens, limit in zip(sources, outputs, limits, strict=True):
            if len(tokens) > limit and limit < max(limits):
                # a batch has one limit; what went beyond its own is decoded again with that
                tokens = self._tokens([source], limit)[0]
            decoded.append(Decoded(tokens[:limit], len(tokens) > limit, min(len(tokens), limit) + 1))
        return decoded

    def _tokens(self, sources: Sequence[Sequence[int]], limit: int) -> list[list[int]]:
        """The best output of each source; one without an end has ``limit`` tokens and one more."""
        results = self._translator.translate_batch(
            [[self._source_pieces[i] for i in tokens] for tokens in sources],
            max_decoding_length=limit + 1,
            **self._options,
        )
        return [[self._numbers[piece] for piece in result.hypotheses[0]] for result in results]


def open_bundle(bundle: Bundle, search: Mapping[str, Any], threads: int) -> CTranslate2System:
    """The system of a bundle."""
    return CTranslate2System(bundle, search, threads)
