"""Greedy and beam search by CTranslate2 whose n-best lists are those of ``retort.search``, only sooner.

CTranslate2 extends the same hypotheses in the same way, but stops earlier and ranks by another length penalty. So it is
asked for more finished hypotheses than are needed, which are ranked here. What may still differ is left to torch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retort.config import Beam, Greedy
from retort.data.batches import Ragged
from retort.data.files import writable
from retort.data.vocabulary import EOS, Vocabulary
from retort.export.ctranslate2 import has_decoder, write
from retort.models.autoregressive import AutoregressiveModel
from retort.models.base import EncoderDecoder
from retort.search.base import Hypothesis, no_output
from retort.search.decoding import decode
from retort.search.tokens import length_penalty, output_limit

PATIENCE, PATIENCE_OF_LISTS = 2, 4
"""Finished hypotheses that are waited for, in beam sizes: for the best one, and for a longer list. Measured on the
teacher of configs/all-methods.yaml (docs/performance.md): with 2 no best hypothesis of 7,998 differed from torch's,
with 4 two lists of 4,000 did."""
TIE = 1e-5
"""Hypotheses whose scores differ by less may change places: the engines' scores differ by up to some 3e-6."""


def unsupported(model: EncoderDecoder, search: Any, dtype: torch.dtype, device: torch.device) -> str | None:
    """Why CTranslate2 cannot decode a model as torch does; None: it can."""
    if not has_decoder(model):
        return f"it decodes with autoregressive Transformers, and this is a {model.family} model"
    if not isinstance(search, Greedy) and not (isinstance(search, Beam) and search.beam_size > 1):
        return f"it has greedy search and beams of two and more, and the search is {search.kind}"
    if dtype != torch.float32:
        return f"the precision is {str(dtype).removeprefix('torch.')}, and only float32 gives the same scores"
    if device.type != "cpu":
        return f"the device is {device.type}, and CTranslate2 runs on the processor"
    return None


class ExactSearch:
    """A model in CTranslate2, with torch for the sources of which it cannot be sure.

    Only for what is not ``unsupported``.
    """

    def __init__(
        self,
        model: AutoregressiveModel,
        vocabulary: Vocabulary,
        search: Greedy | Beam,
        batch_tokens: int,
        best: int,
        threads: int,
    ) -> None:
        """``best``: hypotheses that are needed of each source. ``batch_tokens``: source tokens of a batch."""
        import ctranslate2

        self.model, self.search, self.batch_tokens, self.best = model, search, batch_tokens, best
        self.left_to_torch = 0
        with tempfile.TemporaryDirectory() as directory, writable(Path(directory)):
            write(model, vocabulary, directory=Path(directory), precision="float32")
            self._translator = ctranslate2.Translator(
                directory, device="cpu", compute_type="float32", inter_threads=1, intra_threads=threads
            )
        self._source_pieces, pieces = vocabulary.source_pieces, vocabulary.target_pieces
        self._numbers = {piece: i for i, piece in enumerate(pieces)}
        self._impossible = frozenset(no_output(search))
        self._needed = 1
        self._options: dict[str, Any] = {"beam_size": 1, "length_penalty": 0}
        if isinstance(search, Beam):
            patience = PATIENCE if best == 1 else PATIENCE_OF_LISTS
            self._needed = search.beam_size
            # any penalty makes CTranslate2 wait for so many; the mean per token is taken back below
            self._options = {"beam_size": search.beam_size, "patience": patience, "length_penalty": 1}
            self._options["num_hypotheses"] = search.beam_size * patience
        self._options |= {
            # Only eos may end one; a hypothesis that ends with another is given up. CTranslate2 could suppress those,
            # but then its softmax would leave them out, which changes every score.
            "end_token": [pieces[i] for i in (EOS, *self._impossible)],
            "return_end_token": True,
            "return_scores": True,
            "max_input_length": 0,
            "min_decoding_length": 0,
            "max_batch_size": batch_tokens,
            "batch_type": "tokens",
        }

    def decode(self, source: Ragged) -> list[list[Hypothesis]]:
        """n-best lists of encoded sources, in their order, at least ``best`` long where torch's are.

        The sources are neither empty nor longer than the model allows.
        """
        if not len(source):
            return []
        sentences = source.lists()
        limits = [output_limit(len(s), self.search.max_ratio, self.model.config.max_length) for s in sentences]
        decoded = self._translator.translate_batch(
            [[self._source_pieces[i] for i in sentence] for sentence in sentences],
            max_decoding_length=max(limits) + 1,
            **self._options,
        )
        lists = [self._ranked(result, limit) for result, limit in zip(decoded, limits, strict=True)]
        unsure = np.array([i for i, hypotheses in enumerate(lists) if hypotheses is None], dtype=np.int64)
        self.left_to_torch += len(unsure)
        exact = (
            decode(self.model, source.select(unsure), search=self.search, batch_tokens=self.batch_tokens)
            if len(unsure)
            else []
        )
        again = dict(zip(unsure.tolist(), exact, strict=True))
        return [again[i] if hypotheses is None else hypotheses for i, hypotheses in enumerate(lists)]

    def _ranked(self, result: Any, limit: int) -> list[Hypothesis] | None:
        """The list of one source; None where torch's may be another one.

        That is where a token other than eos ended a hypothesis, where the limit did, or where two scores are too close.
        """
        hypotheses = []
        for sequence, score in zip(result.hypotheses, result.scores, strict=True):
            *tokens, end = (self._numbers[piece] for piece in sequence)
            if end in self._impossible or any(token == EOS or token in self._impossible for token in tokens):
                return None
            if end == EOS and len(tokens) <= limit:
                score = self._own_score(score, len(sequence))
                hypotheses.append(Hypothesis(tokens=tokens, score=score, truncated=False, passes=len(sequence)))
        if len(hypotheses) < self._needed:
            return None
        hypotheses.sort(key=lambda hypothesis: -hypothesis.score)
        if any(a.score - b.score < TIE for a, b in pairwise(hypotheses[: self.best + 1])):
            return None
        return hypotheses[: self._needed]

    def _own_score(self, score: float, length: int) -> float:
        """The score of ``retort.search`` for one of CTranslate2; the length counts eos."""
        if not isinstance(self.search, Beam):
            return score
        return score * length / length_penalty(length, self.search.length_penalty)


def differing(expected: Sequence[Sequence[Hypothesis]], given: Sequence[Sequence[Hypothesis]], best: int) -> list[int]:
    """Sources whose ``best`` hypotheses differ in more than their scores."""
    return [
        i for i, pair in enumerate(zip(expected, given, strict=True)) if _facts(pair[0], best) != _facts(pair[1], best)
    ]


def _facts(hypotheses: Sequence[Hypothesis], best: int) -> list[tuple[list[int], bool, int]]:
    return [(h.tokens, h.truncated, h.passes) for h in hypotheses[:best]]
