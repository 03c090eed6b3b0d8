"""NCM, the normalised corpus-level multi-modality of Sun and Yang (2020, section 3).

NCM = sum of -log p(y | x) / sum of target tokens, under a non-autoregressive model. The pairs are of the corpus that it
was trained on, but held out. It is a ratio of sums, in nats per token, with length and eos, without smoothing and
dropout. It is an upper bound of the corpus's conditional entropy per token. The bound cannot be reached where several
translations are right, because the model's tokens do not see each other. Compare values only between models of one
configuration, vocabulary and training budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from retort.data.batches import EncodedCorpus
from retort.distillation.likelihood import BATCH_TOKENS, log_likelihoods
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
        """Nats per target token."""
        return self.nats / self.tokens if self.tokens else float("nan")


def multimodality(
    model: EncoderDecoder, objective: Any, corpus: EncodedCorpus, batch_tokens: int = BATCH_TOKENS
) -> Multimodality:
    """NCM of held-out pairs under a non-autoregressive model."""
    nats = -log_likelihoods(model, objective, source=corpus.source, target=corpus.target, batch_tokens=batch_tokens)
    possible = np.isfinite(nats)
    return Multimodality(
        sentences=int(possible.sum()),
        infeasible=int((~possible).sum()),
        tokens=int((corpus.target.lengths + 1)[possible].sum()),
        nats=float(nats[possible].sum()),
    )
