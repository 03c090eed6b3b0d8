"""The training loop: batches, updates, validations, averaging, saving and resuming."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from retort.batches import Batch, EncodedCorpus, epoch_batches
from retort.config import Training
from retort.errors import OutOfTime, RetortError
from retort.labels import StoredLabels
from retort.losses.base import Step
from retort.models.autoregressive import AutoregressiveModel
from retort.models.functional import reseed_dropout
from retort.models.transformer import EncoderDecoder
from retort.training.log import TrainingLog
from retort.training.optimiser import FlatOptimiser, learning_rate
from retort.training.state import TrainingState
from retort.training.validation import Validator
from retort.training.weighting import Weighting

LOG_EVERY = 50
"""Updates between lines of the training log."""

logger = logging.getLogger(__name__)


@dataclass
class Progress:
    """What, with the optimiser's tensors, a training resumes from."""

    update: int = 0
    epoch: int = 0
    position: int = 0
    """Batches of the epoch already used."""
    seconds: float = 0.0
    tokens: int = 0
    since_best: int = 0
    best: list[tuple[float, int]] = field(default_factory=list)
    """(validation metric, higher is better; update) of the kept weights, best first."""
    rows: list[list[Any]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the training metrics since the last line of the log, with their count."""
    weighting: dict[str, Any] = field(default_factory=dict)
    """State of the weights of samples."""


@dataclass(frozen=True)
class Result:
    """The averaged best weights are in the model; ``scores`` are theirs on the validation set."""

    updates: int
    epochs: int
    seconds: float
    tokens: int
    stopped_by: str
    averaged_updates: list[int]
    scores: dict[str, float]
    rows: list[list[Any]]


@dataclass(frozen=True)
class Planned:
    """A batch, its epoch, and how many batches of the epoch are used once it is."""

    batch: Batch
    epoch: int
    position: int


class Trainer:
    """Trains one model; see ``run``."""

    def __init__(
        self,
        model: EncoderDecoder,
        objective: Any,
        corpus: EncodedCorpus,
        validator: Validator,
        settings: Training,
        seed: int,
        dtype: torch.dtype,
        state: TrainingState,
        teacher: AutoregressiveModel | None = None,
        deadline: float = math.inf,
        keep_state: bool = False,
        weighting: Weighting | None = None,
        labels: StoredLabels | None = None,
    ) -> None:
        """``teacher``: the trained model that the objective asks, if it asks one.
        ``labels``: what it said of the corpus, if the objective reads that.
        ``weighting``: gives each batch's samples their weights; without it all count the same.
        ``deadline``: the reading of ``time.monotonic`` at which to save, stop and raise OutOfTime.
        ``keep_state``: leave the state of the finished training too, from which its results come again at once."""
        self.model, self.objective, self.corpus = model.train(), objective, corpus
        self.validator, self.settings, self.seed, self.state = validator, settings, seed, state
        self.deadline, self.keep_state, self.weighting, self.labels = deadline, keep_state, weighting, labels
        module = import_module(f"retort.losses.{objective.name}")
        self.compute, self.prepare, self.teacher = module.compute, getattr(module, "prepare", None), teacher
        self.prepared_updates = objective.rollout.updates if self.prepare else 1
        """Updates whose batches are prepared together; between them no state is saved."""
        self.optimiser = FlatOptimiser(model, settings, dtype)
        self.progress = Progress()
        self.kept: dict[int, Tensor] = {}
        """Weights of the best validated updates."""

    def run(self, log_directory: Any) -> Result:
        """Train to the end, going on from a saved state if there is one."""
        self._resume()
        progress, settings = self.progress, self.settings
        log = TrainingLog(log_directory, settings.max_updates, progress.rows, progress.update)
        batches = self._prepared_batches()
        clock = time.monotonic()
        saved = clock
        stopped_by = self._stop_reason()
        while stopped_by is None:
            self._update(batches)
            now = time.monotonic()
            progress.seconds += now - clock
            clock = now
            log.advance()
            if progress.update % LOG_EVERY == 0:
                self._log_training(log)
            if progress.update % settings.validate_every == 0 or progress.update == settings.max_updates:
                self._validate(log)
                now = time.monotonic()
                progress.seconds += now - clock
                clock = now
            stopped_by = self._stop_reason()
            whole = progress.update % self.prepared_updates == 0
            due = now > self.deadline or now - saved > settings.checkpoint_minutes * 60
            if stopped_by is None and whole and due:
                self.save()
                saved = now
                if now > self.deadline:
                    log.close()
                    raise OutOfTime(f"out of time after update {progress.update}; its state is saved")
        if not any(update == progress.update and split == "valid" for update, split, *_ in progress.rows):
            self._validate(log)
        if self.keep_state:
            self.save()
        self.optimiser.load_weights(self.average())
        scores = self.validator(self.model)
        log.add(progress.update, "average", scores, progress.seconds)
        log.close()
        return Result(
            progress.update,
            progress.epoch,
            progress.seconds,
            progress.tokens,
            stopped_by or "",
            [update for _, update in progress.best],
            scores,
            progress.rows,
        )

    def average(self) -> Tensor:
        """Mean of the kept weights."""
        return torch.stack([self.kept[update] for _, update in self.progress.best]).mean(0)

    def save(self) -> None:
        """Save the training state."""
        tensors = self.optimiser.state() | {f"kept.{update}": weights for update, weights in self.kept.items()}
        self.state.save(self.progress.update, tensors, self.progress.__dict__)

    def _resume(self) -> None:
        found = self.state.load()
        if found is None:
            return
        tensors, counters = found
        self.progress = Progress(**{**counters, "best": [tuple(entry) for entry in counters["best"]]})
        device = self.optimiser.master.device
        self.kept = {int(n[5:]): t.to(device) for n, t in tensors.items() if n.startswith("kept.")}
        self.optimiser.load_state({n: t for n, t in tensors.items() if not n.startswith("kept.")})
        logger.info("going on from update %d", self.progress.update)

    def _batches(self) -> Iterator[Planned]:
        """The batches from where progress stands."""
        epoch, position = self.progress.epoch, self.progress.position
        while True:
            groups = epoch_batches(self.corpus, self.settings.batch_tokens, self.seed, epoch)
            for used in range(position, len(groups)):
                yield Planned(self.corpus.batch(groups[used]).to(self.model.device), epoch, used + 1)
            epoch, position = epoch + 1, 0

    def _prepared_batches(self) -> Iterator[tuple[Planned, Step]]:
        """The batches with their steps. Those of ``prepared_updates`` updates are prepared at once, before the first of
        them: when the first is asked for, the model has the weights it is trained from."""
        batches, settings = self._batches(), self.settings
        done = self.progress.update
        while True:
            updates = range(done, min(done + self.prepared_updates, settings.max_updates))
            numbers = [(update, part) for update in updates for part in range(settings.accumulate)]
            planned = [next(batches) for _ in numbers]
            steps = [
                Step(
                    torch.Generator().manual_seed(self._seed_of(n + 1, part)),
                    n / settings.max_updates,
                    self.teacher,
                    labels=self.labels,
                )
                for n, part in numbers
            ]
            if self.prepare:
                prepared = self.prepare(self.model, [p.batch for p in planned], self.objective, steps)
                steps = [replace(step, prepared=own) for step, own in zip(steps, prepared, strict=True)]
            yield from zip(planned, steps, strict=True)
            done = updates.stop

    def _seed_of(self, update: int, part: int) -> int:
        return hash((self.seed, update, part)) & (2**63 - 1)

    def _update(self, batches: Iterator[tuple[Planned, Step]]) -> None:
        progress, sums = self.progress, self.progress.sums
        update = progress.update + 1
        for part in range(self.settings.accumulate):
            planned, step = next(batches)
            batch, progress.epoch, progress.position = planned.batch, planned.epoch, planned.position
            if self.weighting:
                batch = self.weighting(self.model, batch, step, progress.weighting)
            reseed_dropout(self.seed, update, part)
            torch.manual_seed(self._seed_of(update, part))
            loss = self.compute(self.model, batch, self.objective, step)
            value = loss.total.item()
            if value != value or value in (float("inf"), float("-inf")):
                raise RetortError(
                    f"update {update}: the loss is {value}; batch with ids {batch.ids[:5].tolist()} ... The weights "
                    f"before it are kept. Lower training.learning_rate, raise training.warmup, or use "
                    f"training.precision float32"
                )
            (loss.total / self.settings.accumulate).backward()
            self.optimiser.collect()
            tokens = batch.target_tokens
            progress.tokens += tokens
            for name, x in {"loss": value, **{n: float(v) for n, v in loss.parts.items()}, "tokens": tokens}.items():
                sums[name] = sums.get(name, 0.0) + x
            sums["batches"] = sums.get("batches", 0.0) + 1
        norm = float(self.optimiser.step(update))
        if norm != norm or norm == float("inf"):
            raise RetortError(
                f"update {update}: the gradient norm is {norm}; lower training.learning_rate, raise training.warmup, "
                f"or use training.precision float32"
            )
        sums["gradient_norm"] = sums.get("gradient_norm", 0.0) + norm * self.settings.accumulate
        progress.update = update

    def _log_training(self, log: TrainingLog) -> None:
        sums, progress = self.progress.sums, self.progress
        count = sums.pop("batches")
        tokens = sums.pop("tokens")
        metrics = {name: value / count for name, value in sums.items()}
        before = next((r[4] for r in reversed(progress.rows) if r[1] == "train"), 0.0)
        metrics["tokens_per_second"] = tokens / max(1e-9, progress.seconds - before)
        if self.weighting:
            metrics |= self.weighting.metrics(progress.weighting)
        metrics["learning_rate"] = learning_rate(self.settings, progress.update)
        sums.clear()
        log.add(progress.update, "train", metrics, progress.seconds)

    def _validate(self, log: TrainingLog) -> None:
        progress = self.progress
        scores = self.validator(self.model)
        log.add(progress.update, "valid", scores, progress.seconds)
        metric = scores[self.settings.select_by] * (-1 if self.settings.select_by == "loss" else 1)
        progress.since_best = 0 if not progress.best or metric > progress.best[0][0] else progress.since_best + 1
        progress.best.append((metric, progress.update))
        progress.best.sort(key=lambda entry: (-entry[0], -entry[1]))
        del progress.best[self.settings.average_best :]
        self.kept[progress.update] = self.optimiser.master.clone()
        self.kept = {update: self.kept[update] for _, update in progress.best}

    def _stop_reason(self) -> str | None:
        settings, progress = self.settings, self.progress
        if progress.update >= settings.max_updates:
            return "max_updates"
        if settings.max_minutes is not None and progress.seconds >= settings.max_minutes * 60:
            return "max_minutes"
        if settings.patience is not None and progress.since_best >= settings.patience:
            return "patience"
        return None
