"""Validation: loss over the whole set, and quality of decoded translations of a fixed subset."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import sacrebleu
import torch

from retort.data.batches import EncodedCorpus, length_batches
from retort.data.vocabulary import Vocabulary
from retort.evaluation import rouge
from retort.losses.base import Step
from retort.models.base import EncoderDecoder
from retort.models.kernels import reseed_dropout
from retort.search.base import run_search


class Validator:
    """Scores a model on held-out pairs; the references are the encoded ones, decoded, one a source."""

    def __init__(
        self,
        corpus: EncodedCorpus,
        vocabulary: Vocabulary,
        objective: Any,
        search: Any,
        sentences: int,
        tokens: int,
        select_by: str = "BLEU",
        others: Mapping[str, EncodedCorpus] | None = None,
    ) -> None:
        """``others``: further pairs, whose loss is scored too, by name."""
        self.corpus, self.vocabulary, self.objective, self.search = corpus, vocabulary, objective, search
        self.tokens, self.select_by, self.others = tokens, select_by, others or {}
        self.subset = corpus.head(sentences) if sentences else None

    def __call__(self, model: EncoderDecoder) -> dict[str, float]:
        """loss (training objective without smoothing, mean a target token), its parts, BLEU, chrF, and ROUGE if that
        selects; loss_<name> of other pairs."""
        model.eval()
        scores = self.loss(model, self.corpus)
        scores |= {f"loss_{name}": self.loss(model, corpus)["loss"] for name, corpus in self.others.items()}
        if self.subset is not None:
            scores |= self.quality(model, self.subset)
        model.train()
        return scores

    @torch.no_grad()
    def loss(self, model: EncoderDecoder, corpus: EncodedCorpus) -> dict[str, float]:
        module = import_module(f"retort.objectives.{self.objective.name}")
        step = Step(torch.Generator().manual_seed(0))
        reseed_dropout(0)
        sums: dict[str, float] = {}
        total = 0
        for rows in length_batches(corpus.target.lengths, self.tokens):
            batch = corpus.batch(rows)
            weight = batch.target_tokens
            loss = module.compute(model, batch.to(model.device), self.objective, step)
            for name, value in {"loss": loss.total, **loss.parts}.items():
                sums[name] = sums.get(name, 0.0) + float(value) * weight
            total += weight
        return {name: value / total for name, value in sums.items()}

    def quality(self, model: EncoderDecoder, subset: EncodedCorpus) -> dict[str, float]:
        hypotheses = [""] * len(subset)
        for rows in length_batches(subset.source.lengths, self.tokens):
            source_bs = subset.source.padded(rows).to(model.device)
            found = [best[0].tokens for best in run_search(model, source_bs, self.search)]
            for row, text in zip(rows, self.vocabulary.decode_target(found), strict=True):
                hypotheses[row] = text
        offsets = subset.target.offsets
        references = self.vocabulary.decode_target(
            [subset.target.tokens[offsets[i] : offsets[i + 1]].tolist() for i in range(len(subset))]
        )
        scores = {
            "BLEU": sacrebleu.corpus_bleu(hypotheses, [references]).score,
            "chrF": sacrebleu.corpus_chrf(hypotheses, [references]).score,
        }
        if self.select_by in rouge.KINDS:
            alone = [[reference] for reference in references]
            scores[self.select_by] = float(rouge.sentence_scores(self.select_by, hypotheses, alone).mean())
        return scores
