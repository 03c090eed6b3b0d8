"""Weights of the samples of a batch: mixed targets, selective KD, and self-paced learning.

Weights are functions of the batch, of progress, and of a state that is saved with the training's. The state has the
last values of the criterion, the surplus of kept samples, and counts for the log.

A quantile among the samples of the batch keeps a whole number of samples; what is rounded off is carried to the next
batch of the kind. Of a quantile among the last samples: while a loss falls, new values are lower than earlier ones, so
it would keep too many. The surplus lowers it, so that the share of kept samples is the one that random choice would
keep.

Shape letters: b batch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retort.config import DataMixture, SelfPaced, System, WeightedMixture
from retort.data.batches import Batch, EncodedCorpus, evenly_spread
from retort.data.ids import check_known
from retort.data.parquet import Table, read_table
from retort.data.tables import AGREEMENT, MIXED
from retort.data.vocabulary import PAD
from retort.errors import RetortError
from retort.models.base import EncoderDecoder
from retort.objectives.base import Step, load_objective

RAW, DISTILLED = "raw", "distilled"
TIES = 1e-6
"""Scale of the random numbers that are added to the values, so that a quantile splits equal values."""

HARDEST = 1e4
"""Loss per token, in nats, of a target whose length has no class: it waits longest, and trains by the nearest class."""

WINDOW = 10_000
"""Number of sources whose similarity gives the quantiles."""


class Scores:
    """A number per source, by its id."""

    def __init__(self, ids: np.ndarray, values: np.ndarray) -> None:
        """An id may occur several times, with the same value."""
        self.ids, rows = np.unique(ids, return_index=True)
        self.values = values[rows].astype(np.float32)

    @classmethod
    def read(cls, path: Path, table: Table, column: str, ids: np.ndarray) -> Scores:
        """The values of a table's column for ``ids``; raises RetortError unless the table has all of them."""
        rows = read_table(path, table, ["id", column])
        own = rows["id"].to_numpy()
        check_known(ids, own, where=path, of="the training text", advice="make it again")
        asked = np.isin(own, ids)
        return cls(own[asked], rows[column].to_numpy()[asked])

    def unlikeness(self, seed: int, shuffled: bool) -> Scores:
        """1 - chrF / 100 per source, ties broken at random; ``shuffled`` among the sources.

        A reference without a translation counts as identical (0).
        """
        random = np.random.default_rng(seed)
        values = 1 - np.nan_to_num(self.values, nan=100.0) / 100 + TIES * random.random(len(self.ids))
        return Scores(self.ids, random.permutation(values) if shuffled else values)

    def window(self) -> list[float]:
        """The values in ascending order, thinned out evenly to at most WINDOW."""
        return np.sort(self.values)[evenly_spread(len(self.values), WINDOW)].tolist()  # type: ignore[no-any-return]

    def of(self, ids: Tensor) -> Tensor:
        """The values of these sources, all of which must be known: float32 [b], on the CPU."""
        return torch.from_numpy(self.values[self.ids.searchsorted(ids.cpu().numpy())])


class Weighting:
    """Gives the samples of a batch their weights, and drops those of weight 0."""

    def __init__(
        self,
        objective: Any,
        mixture: DataMixture | None = None,
        paced: SelfPaced | None = None,
        similarity: Scores | None = None,
        evaluator: Scores | None = None,
        alone: Scores | None = None,
        seed: int = 1,
    ) -> None:
        """``similarity``: chrF of the two targets of each source. ``evaluator``: its score of each reference.
        ``alone``: 1 for sources with one target, 0 for others; None: all have two. ``seed``: for random numbers that
        stay the same from update to update."""
        self.objective = objective
        self.mixture = mixture
        self.paced = paced
        self.evaluator = evaluator
        self.alone = alone
        if paced and paced.criterion == "similarity":
            if similarity is None:
                raise RetortError("the similarity of two targets is asked for, and there is none")
            self.unlikeness = similarity.unlikeness(seed, paced.random)
            self.window = self.unlikeness.window()
        self.module = load_objective(objective.name)

    def __call__(self, model: EncoderDecoder, batch: Batch, step: Step, state: dict[str, Any]) -> Batch:
        """The weighted batch. ``state`` is empty at first, and is updated."""
        weight_b = self._mixture_weights(batch, step.progress)
        mixed = batch.weighted(weight_b)
        if isinstance(self.mixture, WeightedMixture):
            mixed = replace(mixed, scale=_scale(batch, weight_b))
        share = quantile_at(self.paced, step.progress) if self.paced else 1.0
        paced = mixed
        if self.paced and share < 1:
            paced = self._paced(self.paced, share, model=model, batch=mixed, step=step, state=state)
        _count(state, batch, paced)
        return paced

    def metrics(self, state: dict[str, Any]) -> dict[str, float]:
        """Share of samples with a weight above 0 since the last call: of all samples, and of each kind."""
        counts: dict[str, list[int]] = state.pop("counts", {})
        return {name: kept / seen for name, (kept, seen) in counts.items() if seen}

    def _mixture_weights(self, batch: Batch, progress: float) -> Tensor:
        weight_b = torch.ones_like(batch.weights)
        mixture = self.mixture
        if mixture is None or mixture.kind == "union":
            return weight_b
        distilled_b = _distilled(batch)
        if mixture.kind == "weighted":
            weighted_b = torch.where(distilled_b, mixture.weight * weight_b, (1 - mixture.weight) * weight_b)
            if self.alone is None:
                return weighted_b
            return torch.where(self.alone.of(batch.ids).bool().to(weight_b.device), weight_b, weighted_b)
        if self.evaluator is None:
            raise RetortError("a selective mixture needs an evaluator's scores of the references, and there are none")
        chosen_b = choose_distilled(
            self.evaluator.of(batch.ids), start=mixture.start, slope=mixture.slope, progress=progress
        )
        return (chosen_b.to(distilled_b.device) == distilled_b).float()

    def _paced(
        self, paced: SelfPaced, share: float, model: EncoderDecoder, batch: Batch, step: Step, state: dict[str, Any]
    ) -> Batch:
        """The batch with the weights of its samples, without those that wait and the pairs that no alignment fits."""
        raw_b = torch.ones(len(batch.ids), dtype=torch.bool)
        if batch.distilled_b is not None:
            raw_b = ~batch.distilled_b.cpu()
        if paced.criterion == "similarity":
            waiting = {RAW: raw_b}
            values_b = torch.zeros(len(batch.ids))
            values_b[raw_b] = self.unlikeness.of(batch.ids.cpu()[raw_b])
        else:
            waiting = {RAW: raw_b, DISTILLED: ~raw_b}
            random_b = torch.rand(len(batch.ids), generator=step.generator, dtype=torch.float64)
            values_b = self._values(paced, model, batch).cpu() + (1 if paced.random else TIES) * random_b
        fits_b = values_b != float("inf")
        weight_b = fits_b.float()
        for kind, chosen_b in waiting.items():
            if (chosen_b & fits_b).any():
                fitting_b = values_b[chosen_b & fits_b]
                weight_b[chosen_b & fits_b] = self._weights_of_kind(kind, paced, share, fitting_b, state)
        kept = batch.weighted(batch.weights * weight_b.to(batch.weights.device))
        gone = len(batch.ids) - len(kept.ids)
        return replace(kept, gone=(gone, int((~fits_b).sum()))) if gone and paced.criterion != "similarity" else kept

    def _weights_of_kind(
        self, kind: str, paced: SelfPaced, share: float, values_b: Tensor, state: dict[str, Any]
    ) -> Tensor:
        """Weights of the samples of one kind, whose surplus and last values are in ``state``."""
        surplus = state.setdefault("surplus", {})
        before = surplus.get(kind, 0.0)
        if paced.among == "batch":
            weight_b = weights_of_easiest(values_b, share * len(values_b) - before, kind=paced.weights)
        elif paced.criterion == "similarity":
            weight_b = weights_within(values_b, self.window, share=share, kind=paced.weights)
        else:
            windows = state.setdefault("windows", {})
            windows[kind] = last_values(windows.get(kind, []), values_b, paced.window)
            within = min(max(share - before / paced.window, 0.0), 1.0)
            weight_b = weights_within(values_b, windows[kind], share=within, kind=paced.weights)
        after = before + int((weight_b > 0).sum()) - share * len(values_b)
        # what is rounded off is below 1; more is of batches that keep their only sample, and no other batch's debt
        surplus[kind] = min(max(after, -1.0), 1.0) if paced.among == "batch" else after
        return weight_b

    def _values(self, paced: SelfPaced, model: EncoderDecoder, batch: Batch) -> Tensor:
        """The criterion of each sample [b], without dropout, 0 in the control; larger is harder.

        Infinite in both where no alignment fits.
        """
        aligned = any(declared.of == "sentences" for declared in self.objective.untrained)
        criterion = None if paced.random else paced.criterion
        values_b = torch.zeros_like(batch.weights)
        training = model.training
        model.eval()
        with torch.no_grad():
            if aligned or criterion == "loss":
                length_b = (batch.target_bt != PAD).sum(1)
                nll_b = -self.module.log_likelihood(model, batch, self.objective) / length_b
                if not aligned:
                    nll_b = nll_b.clamp(max=HARDEST)
                values_b = nll_b if criterion == "loss" else values_b.masked_fill(nll_b == float("inf"), float("inf"))
            if criterion == "agreement":
                values_b = values_b + 1 - self.module.agreement(model, batch, self.objective)
        model.train(training)
        return values_b


def samples_of_kinds(corpus: EncodedCorpus, count: int) -> dict[str, EncodedCorpus]:
    """Pairs of ``count`` evenly spread sources with both kinds of targets, by kind; empty where there are none."""
    if corpus.distilled is None:
        return {}
    rows = {RAW: np.flatnonzero(~corpus.distilled), DISTILLED: np.flatnonzero(corpus.distilled)}
    both = np.intersect1d(corpus.ids[rows[RAW]], corpus.ids[rows[DISTILLED]])
    if not len(both):
        return {}
    sampled = both[evenly_spread(len(both), count)]
    return {kind: corpus.select(own[np.isin(corpus.ids[own], sampled)]) for kind, own in rows.items()}


def weighting_of(
    system: System, corpus: EncodedCorpus, train: Path, agreement: Path | None, seed: int
) -> Weighting | None:
    """The weighting of a system's samples; None where all weights are 1."""
    mixture, paced = system.mixture, system.self_paced
    selective = mixture is not None and mixture.kind == "selective"
    if paced is None and (mixture is None or mixture.kind == "union"):
        return None
    similarity = evaluator = alone = None
    if paced and paced.criterion == "similarity":
        similarity = Scores.read(train, MIXED, column="similarity", ids=_ids_of_kinds(corpus)[RAW])
    if selective:
        if agreement is None:
            raise RetortError("a selective mixture needs its evaluator's table, but no --agreement was given")
        evaluator = _evaluator_scores(agreement, corpus)
    if mixture and mixture.kind == "weighted":
        alone = _alone(corpus)
    return Weighting(
        system.objective,
        mixture=mixture,
        paced=paced,
        similarity=similarity,
        evaluator=evaluator,
        alone=alone,
        seed=seed,
    )


def _ids_of_kinds(corpus: EncodedCorpus) -> dict[str, np.ndarray]:
    """Ids of the pairs with a reference and of those with a translation; without kinds all are references."""
    distilled = np.zeros(len(corpus), bool) if corpus.distilled is None else corpus.distilled
    return {RAW: corpus.ids[~distilled], DISTILLED: corpus.ids[distilled]}


def _alone(corpus: EncodedCorpus) -> Scores:
    """1 of each source with one target alone, 0 of each with two."""
    ids = _ids_of_kinds(corpus)
    return Scores(corpus.ids, ~np.isin(corpus.ids, np.intersect1d(ids[RAW], ids[DISTILLED])))


def _evaluator_scores(agreement: Path, corpus: EncodedCorpus) -> Scores:
    """The evaluator's score of each source's reference; infinite, so that what there is is chosen, where a source has
    one target alone."""
    ids = _ids_of_kinds(corpus)
    scores = Scores.read(agreement, AGREEMENT, column="score", ids=ids[RAW])
    scores.values[~np.isin(scores.ids, ids[DISTILLED])] = np.inf
    unreferenced = np.setdiff1d(ids[DISTILLED], ids[RAW])
    values = np.concatenate([scores.values, np.full(len(unreferenced), -np.inf)])
    return Scores(np.concatenate([scores.ids, unreferenced]), values)


def choose_distilled(score_b: Tensor, start: float, slope: float, progress: float) -> Tensor:
    """Which sources train on the teacher's translation (selective KD, Liu et al. 2023)."""
    return score_b < start + slope * progress


def quantile_at(paced: SelfPaced, progress: float) -> float:
    """Share of the samples within the bound; 1 where none waits."""
    if progress < paced.warmup:
        return 1.0
    remaining = max(0.0, (paced.full - progress) / (paced.full - paced.warmup))
    return paced.end + (paced.start - paced.end) * remaining


def last_values(window: list[float], values_b: Tensor, size: int) -> list[float]:
    """The window with these values appended, without NaN, cut to the last ``size``."""
    return [*window, *values_b[~values_b.isnan()].tolist()][-size:]


def weights_within(values_b: Tensor, window: list[float], share: float, kind: str) -> Tensor:
    """Self-paced weights [b]: the bound is the quantile ``share`` of the window."""
    if not window:
        return torch.ones(len(values_b))
    bound = float(np.quantile(window, share))
    if kind == "hard":
        # the training loop reports values that are not numbers
        return (~(values_b > bound)).float()
    return (1 - values_b / max(bound, TIES)).clamp(min=0).float()


def weights_of_easiest(values_b: Tensor, count: float, kind: str) -> Tensor:
    """Self-paced weights [b]: the bound lies above the ``count`` lowest values, rounded; at least one is below it."""
    kept = min(max(round(count), 1), len(values_b))
    order_b = values_b.argsort(stable=True)
    bound = float(values_b[order_b[kept]]) if kept < len(values_b) else float("inf")
    weight_b = torch.zeros(len(values_b))
    weight_b[order_b[:kept]] = 1.0
    if kind == "linear":
        weight_b *= (1 - values_b / max(bound, TIES)).clamp(min=0).float()
    # the training loop reports values that are not numbers
    return weight_b.masked_fill(values_b.isnan(), 1.0)


def _scale(batch: Batch, weight_b: Tensor) -> Tensor:
    """What undoes the divisor of a mean by these weights, so that a batch of few weights counts little: twice the mean
    weight of its target tokens, which is 1 where references and translations weigh the same."""
    tokens_b = (batch.target_bt != PAD).sum(1)
    return 2 * (weight_b * tokens_b).sum() / tokens_b.sum()


def _distilled(batch: Batch) -> Tensor:
    if batch.distilled_b is None:
        raise RetortError("the training text does not say which targets are the teacher's; it must be a mixed table")
    return batch.distilled_b


def _count(state: dict[str, Any], batch: Batch, kept: Batch) -> None:
    """Add to the counts of samples with a weight above 0, and of all samples."""
    seen = _kinds(batch)
    positive_b = kept.weights > 0
    counts = {name: [int((b & positive_b).sum()), int(seen[name].sum())] for name, b in _kinds(kept).items()}
    add_counts(state, {"counts": counts})


def add_counts(state: dict[str, Any], other: dict[str, Any]) -> None:
    """Add the counts of another state."""
    for name, (kept, seen) in other.get("counts", {}).items():
        number, total = state.setdefault("counts", {}).get(name, (0, 0))
        state["counts"][name] = [number + kept, total + seen]


def _kinds(batch: Batch) -> dict[str, Tensor]:
    """The samples of each kind, by the name of their share in the log."""
    kinds = {"kept": torch.ones_like(batch.weights, dtype=torch.bool)}
    if batch.distilled_b is not None:
        kinds |= {f"kept_{RAW}": ~batch.distilled_b, f"kept_{DISTILLED}": batch.distilled_b}
    return kinds
