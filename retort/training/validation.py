"""Validation: loss over the whole set, and quality of decoded translations of a fixed subset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from retort.config.tokenizers import AUTO
from retort.data.batches import LENGTH_STEP, EncodedCorpus, round_up
from retort.data.vocabulary import Vocabulary
from retort.evaluation.metrics import score
from retort.evaluation.tokenizers import load_tokenizer
from retort.losses.base import Mean
from retort.models.base import EncoderDecoder
from retort.objectives.base import Step, load_objective
from retort.search.decoding import decode


class Validator:
    """Scores a model on held-out pairs. The references are the encoded targets, decoded, one per source."""

    def __init__(
        self,
        corpus: EncodedCorpus,
        vocabulary: Vocabulary,
        objective: Any,
        search: Any,
        sentences: int,
        tokens: int,
        metrics: Sequence[str] = ("BLEU", "chrF"),
        others: Mapping[str, EncodedCorpus] | None = None,
        tokenizer: str = AUTO,
    ) -> None:
        """``sentences``: pairs that are decoded and scored by ``metrics``. ``tokens``: padded tokens of a batch.
        ``others``: further pairs by name, of which only the loss is measured. ``tokenizer``: the metrics'. Raises
        RetortError if something that it needs is not installed."""
        if tokenizer != AUTO:
            load_tokenizer(tokenizer)
        self.tokenizer = tokenizer
        self.corpus, self.vocabulary, self.objective, self.search = corpus, vocabulary, objective, search
        self.tokens, self.metrics, self.others = tokens, metrics, others or {}
        self.subset = corpus.head(sentences) if sentences else None

    def __call__(self, model: EncoderDecoder) -> dict[str, float]:
        """The loss (training objective without smoothing; each of its means over the whole set), its parts, and the
        metrics; loss_<name> of other pairs."""
        model.eval()
        scores = self.loss(model, self.corpus)
        scores |= {f"loss_{name}": self.loss(model, corpus)["loss"] for name, corpus in self.others.items()}
        if self.objective.pretrains:
            gap = self.encoder_gap(model)
            scores |= {} if gap is None else {"encoder_gap": gap}
        if self.subset is not None:
            scores |= self.quality(model, self.subset)
        model.train()
        return scores

    @torch.no_grad()
    def loss(self, model: EncoderDecoder, corpus: EncodedCorpus) -> dict[str, float]:
        compute = load_objective(self.objective.name).compute
        step = Step(torch.Generator().manual_seed(0))
        of_sentences = {declared.part for declared in self.objective.untrained if declared.of == "sentences"}
        sums: dict[str, float] = {}
        totals: dict[str, float] = {}
        summands: dict[str, Mean] = {}
        for rows in corpus.batches(self.tokens):
            batch = corpus.batch(rows)
            loss = compute(model, batch.to(model.device), self.objective, step)
            parts = {name: (value, loss.counts.get(name, loss.tokens)) for name, value in loss.parts.items()}
            summands = {f"summand {number}": mean for number, mean in enumerate(loss.means)}
            for name, (value, count) in (parts | summands).items():
                tokens = batch.target_tokens if count is None else float(count)
                weight = len(rows) if name in of_sentences else tokens
                sums[name] = sums.get(name, 0.0) + float(value) * weight
                totals[name] = totals.get(name, 0.0) + weight
        means = {name: value / totals[name] for name, value in sums.items()}
        total = sum(means.pop(name) for name in summands)
        return {"loss": total, **means}

    @torch.no_grad()
    def encoder_gap(self, model: EncoderDecoder) -> float | None:
        """Nats per token that the loss rises by where the encoder reads another text of about the same length; None
        where there is no other text."""
        module, step = load_objective(self.objective.name), Step(torch.Generator().manual_seed(0))
        sums, total = 0.0, 0
        # so many tokens that the longest text is not alone
        tokens = 2 * round_up(int(self.corpus.target.lengths.max()) + 1, LENGTH_STEP)
        for rows in self.corpus.batches(max(self.tokens, tokens)):
            if len(rows) > 1:
                batch = self.corpus.batch(rows)
                gap = float(module.encoder_gap(model, batch.to(model.device), self.objective, step))
                sums += gap * batch.target_tokens
                total += batch.target_tokens
        return sums / total if total else None

    def quality(self, model: EncoderDecoder, subset: EncodedCorpus) -> dict[str, float]:
        best = [
            hypotheses[0].tokens
            for hypotheses in decode(model, subset.source, search=self.search, batch_tokens=self.tokens)
        ]
        hypotheses = self.vocabulary.decode_target(best)
        references = [[text] for text in self.vocabulary.decode_target(subset.target.lists())]
        return {
            metric: score(metric, hypotheses, references=references, tokenizer=self.tokenizer).value
            for metric in self.metrics
        }


def unused_encoder(objective: Any, rows: Sequence[Sequence[Any]], max_updates: int) -> str:
    """Why a pre-training should stop, given the rows of its log: it has not learnt to use its encoder. Empty if not."""
    gaps = [(row[0], row[3]) for row in rows if row[1:3] == ["valid", "encoder_gap"]]
    if not gaps or not objective.least_encoder_gap or gaps[-1][0] < max_updates / 2:
        return ""
    if max(gap for _, gap in gaps) >= objective.least_encoder_gap:
        return ""
    update, gap = gaps[-1]
    return (
        f"update {update} of {max_updates}: reading another text's encoder states costs {gap:.3f} nats per token, and "
        f"never cost {objective.least_encoder_gap} (encoder_gap in the log): the model does not use its encoder. Take "
        f"{objective.shorter_spans}, longer connected blocks, or more updates; "
        f"objective.least_encoder_gap: 0 goes on regardless"
    )
