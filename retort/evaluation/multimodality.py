"""NCM, the normalised corpus-level multi-modality of Sun and Yang (2020, section 3).

NCM = sum of -log p(y | x) / sum of target tokens, under a non-autoregressive model, on pairs of the corpus it was
trained on that it has not seen: a ratio of sums, in nats a token, length and eos included, unsmoothed, without
dropout. It is an upper bound of the corpus's conditional entropy a token: any model is, and one whose tokens do not
see each other cannot reach the entropy where several translations are right. Values compare only between models of one
shape, vocabulary and training budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from retort.data.batches import EncodedCorpus
from retort.distillation.likelihood import log_likelihoods
from retort.models.base import EncoderDecoder


@dataclass(frozen=True)
class Multimodality:
    """The sums that NCM is made of; ``infeasible`` pairs, which the model cannot produce, are in neither."""

    sentences: int
    infeasible: int
    tokens: int
    nats: float

    @property
    def ncm(self) -> float:
        """Nats a target token."""
        return self.nats / self.tokens if self.tokens else float("nan")

    @property
    def nats_per_sentence(self) -> float:
        """Nats a sentence, to compare with a true conditional entropy."""
        return self.nats / self.sentences if self.sentences else float("nan")


def multimodality(model: EncoderDecoder, objective: Any, corpus: EncodedCorpus, batch_tokens: int) -> Multimodality:
    """NCM of held-out pairs under a non-autoregressive model."""
    nats = -log_likelihoods(model, objective, corpus.source, corpus.target, batch_tokens)
    possible = np.isfinite(nats)
    return Multimodality(
        int(possible.sum()),
        int((~possible).sum()),
        int((corpus.target.lengths + 1)[possible].sum()),
        float(nats[possible].sum()),
    )
