"""The training loop: batches, updates, validations, averaging, saving and resuming."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from retort.config import Training
from retort.config.objective_base import OVERFULL
from retort.data.batches import Batch, EncodedCorpus, epoch_batches
from retort.data.teacher_labels import StoredLabels
from retort.errors import Interrupted, NotFinite, OutOfTime, RetortError
from retort.models.base import EncoderDecoder
from retort.models.kernels import reseed_dropout
from retort.objectives.base import Step, load_objective
from retort.training.distributed.processes import Processes
from retort.training.health import Health
from retort.training.interruption import Interruption
from retort.training.log import TrainingLog
from retort.training.optimiser import FlatOptimiser, learning_rate
from retort.training.seeds import batch_seed
from retort.training.state import Progress, TrainingState
from retort.training.validation import Validator, unused_encoder
from retort.training.weighting import Weighting, add_counts

if TYPE_CHECKING:
    from retort.models.autoregressive import AutoregressiveModel

LOG_EVERY = 50
"""Updates between lines of the training log."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """Outcome of a training. The model holds the weights that ``final_weights`` asks for; ``scores`` are of their
    validation."""

    updates: int
    epochs: int
    """Whole passes over the training text."""
    seconds: float
    tokens: int
    stopped_by: str
    averaged_updates: list[int]
    scores: dict[str, float]
    rows: list[list[Any]]
    warnings: list[str]


@dataclass(frozen=True)
class Planned:
    """The rows of a batch, the whole epochs up to it, and the batches of the next one up to it."""

    rows: np.ndarray
    epoch: int
    position: int


@dataclass(frozen=True)
class Work:
    """This process's batches for one update, with their index in it, and the update's last batch, on whichever process
    it runs."""

    parts: list[tuple[int, Batch, Step]]
    last: Planned


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
        weighting: Weighting | None = None,
        labels: StoredLabels | None = None,
        processes: Processes | None = None,
        interruption: Interruption | None = None,
    ) -> None:
        """``teacher``: the trained model that the objective asks, if it asks one.
        ``labels``: the teacher's stored distributions over the corpus, if the objective reads them.
        ``weighting``: gives the samples of each batch their weights; without it all weights are 1.
        ``deadline``: the reading of ``time.monotonic`` at which to save, stop and raise OutOfTime.
        ``processes``: the processes of this training; default: this one alone.
        ``interruption``: notes the signals at which to save, stop and raise Interrupted."""
        self.model = model.train()
        self.objective = objective
        self.corpus = corpus
        self.validator = validator
        self.settings = settings
        self.seed = seed
        self.state = state
        self.teacher = teacher
        self.weighting = weighting
        self.labels = labels
        self.processes = processes or Processes()
        self.interruption = interruption or Interruption()
        self.deadline = self.processes.broadcast(deadline)
        module = load_objective(objective.name)
        self.compute = module.compute
        self.prepare = module.prepare if objective.prepares else None
        self.optimiser = FlatOptimiser(model, settings, dtype)
        self.health = Health(objective, settings)
        self.progress = Progress()
        self.kept: dict[int, Tensor] = {}
        """Weights of the best validated updates."""
        self._counted = (0.0, 0.0)
        """Readings of the clock and of the process's time up to which the progress has them."""

    def run(self, log_directory: Any) -> Result | None:
        """Train to the end, from the saved state if there is one. Returns None on all but the first process."""
        self._resume()
        self._check_alike()
        progress = self.progress
        self.health.check_lengths(progress.health, self.corpus)
        settings = self.settings
        first = self.processes.first
        log = TrainingLog(
            log_directory if first else None, settings.max_updates, rows=progress.rows, start=progress.update
        )
        work = self._work()
        self._counted = (self._now(), time.process_time())
        saved = self._counted[0]
        stopped_by = self._stop_reason()
        while stopped_by is None:
            before = progress.seconds
            self._update(work)
            now = self._count_time()
            progress.add("seconds", progress.seconds - before)
            log.advance()
            if progress.update % LOG_EVERY == 0:
                self._log_training(log)
            if progress.update % settings.validate_every == 0 or progress.update == settings.max_updates:
                self._validate(log)
                now = self._count_time()
            stopped_by = self._stop_reason()
            whole = progress.update % self.objective.prepared_updates == 0
            interrupted = self._interrupted()
            due = interrupted or now > self.deadline or now - saved > settings.checkpoint_minutes * 60
            if stopped_by is None and whole and due:
                self.save()
                saved = now
                self._raise_if_stopped(now, interrupted, log)
        if not any(update == progress.update and split == "valid" for update, split, *_ in progress.rows):
            self._validate(log)
        if not first:
            return None
        self.health.check_rise(progress.health, progress.rows)
        # results come from it again until the workflow has recorded them
        self.save()
        updates, scores = self._keep_final_weights()
        log.add(progress.update, "average", scores, progress.seconds)
        log.close()
        return Result(
            updates=progress.update,
            epochs=progress.epoch,
            seconds=progress.seconds,
            tokens=progress.tokens,
            stopped_by=stopped_by or "",
            averaged_updates=updates,
            scores=scores,
            rows=progress.rows,
            warnings=self.health.warnings(progress.health),
        )

    def _raise_if_stopped(self, now: float, interrupted: int, log: TrainingLog) -> None:
        """End a training whose state was just saved, if a signal or the clock asks for it."""
        update = self.progress.update
        if interrupted:
            log.close()
            raise Interrupted(interrupted, f"interrupted after update {update}; its state is saved")
        if now > self.deadline:
            log.close()
            raise OutOfTime(f"out of time after update {update}; its state is saved")

    def _keep_final_weights(self) -> tuple[list[int], dict[str, float]]:
        """Load the weights that ``final_weights`` asks for; the updates that they are the average of, and their
        validation."""
        best, settings = self.progress.best, self.settings
        averaged, single = [update for _, update in best], best[0][1]
        if settings.final_weights == "last":
            return [self.progress.update], self.validator(self.model)
        if settings.final_weights != "best":
            self.optimiser.load_weights(self.average())
            scores = self.validator(self.model)
            is_better = scores[settings.select_by] * settings.selection_sign >= best[0][0]
            if settings.final_weights == "mean" or is_better:
                return averaged, scores
        self.optimiser.load_weights(self.kept[single])
        return [single], self.validator(self.model)

    def average(self) -> Tensor:
        """Mean of the best weights."""
        return torch.stack([self.kept[update] for _, update in self.progress.best]).mean(0)

    def save(self) -> None:
        """Save the training state, which is the same in all processes; the first one writes it."""
        if not self.processes.first:
            return
        tensors = self.optimiser.state() | {f"kept.{update}": weights for update, weights in self.kept.items()}
        self.state.save(self.progress.update, tensors, self.progress.__dict__)

    def _resume(self) -> None:
        saved = self.state.load()
        if saved is None:
            return
        tensors, counters = saved
        try:
            progress = Progress(**{**counters, "best": [tuple(entry) for entry in counters["best"]]})
            self._check_state(progress, tensors)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            logger.warning("the saved state %s does not fit (%s); training starts anew", self.state.directory, error)
            return
        self.progress = progress
        device = self.optimiser.master.device
        self.kept = {int(n[5:]): t.to(device) for n, t in tensors.items() if n.startswith("kept.")}
        self.optimiser.load_state({n: t for n, t in tensors.items() if not n.startswith("kept.")})
        logger.info("going on from update %d", self.progress.update)

    def _check_state(self, progress: Progress, tensors: dict[str, Tensor]) -> None:
        """Raises ValueError unless the tensors are those of this training at this point of it."""
        if not 0 <= progress.update <= self.settings.max_updates:
            raise ValueError(f"update {progress.update} of {self.settings.max_updates}")
        expected = self.optimiser.state_shapes(progress.update)
        expected |= {f"kept.{update}": self.optimiser.master.shape for _, update in progress.best}
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        if shapes != expected:
            names = sorted(set(shapes.items()) ^ set(expected.items()))
            raise ValueError(f"tensors differ: {names[:3]}")

    def _check_alike(self) -> None:
        """Raises RetortError if the processes are not at the same update with the same weights."""
        places = self.processes.gather([[self.progress.update, float(self.optimiser.master.sum())]])
        if any(place != places[0] for place in places):
            raise RetortError(
                f"the processes have come apart: (update, sum of the weights) is {places}; does a device differ from "
                f"the others, or is its file system slow? Train with one process"
            )

    def _interrupted(self) -> int:
        """The signal that asked the first process to stop, or 0."""
        return self.processes.broadcast(self.interruption.signal_number)

    def _count_time(self) -> float:
        """Add the time since the last call to the progress; returns the first process's clock."""
        now, processor = self._now(), time.process_time()
        self.progress.seconds += now - self._counted[0]
        self.progress.processor_seconds += processor - self._counted[1]
        self._counted = (now, processor)
        return now

    def _now(self) -> float:
        """The first process's clock."""
        return self.processes.broadcast(time.monotonic())

    def _batches(self) -> Iterator[Planned]:
        """All batches from the current progress on."""
        epoch, position = self.progress.epoch, self.progress.position
        while True:
            groups = epoch_batches(self.corpus, self.settings.batch_tokens, seed=self.seed, epoch=epoch)
            for used in range(position, len(groups)):
                last = used + 1 == len(groups)
                yield Planned(groups[used], epoch + last, 0 if last else used + 1)
            epoch, position = epoch + 1, 0

    def _work(self) -> Iterator[Work]:
        """All updates from the current progress on.

        The batches of ``prepared_updates`` updates are prepared at once, with the model's weights before the first.
        """
        plan = self._batches()
        settings = self.settings
        done = self.progress.update
        while True:
            updates = range(done, min(done + self.objective.prepared_updates, settings.max_updates))
            planned = [[next(plan) for _ in range(settings.accumulate)] for _ in updates]
            own = [(n, part) for n in updates for part in range(settings.accumulate) if self.processes.owns(part)]
            batches = [self.corpus.batch(planned[n - done][part].rows).to(self.model.device) for n, part in own]
            steps = [
                Step(
                    torch.Generator().manual_seed(batch_seed(self.seed, update=n + 1, part=part)),
                    progress=n / settings.max_updates,
                    teacher=self.teacher,
                    labels=self.labels,
                )
                for n, part in own
            ]
            if self.prepare:
                prepared = self.prepare(self.model, batches, self.objective, steps)
                steps = [replace(step, prepared=own) for step, own in zip(steps, prepared, strict=True)]
            parts = list(zip((part for _, part in own), batches, steps, strict=True))
            share = settings.accumulate // self.processes.count
            for start, last in zip(range(0, len(parts), share), planned, strict=True):
                yield Work(parts[start : start + share], last[-1])
            done = updates.stop

    def _update(self, work: Iterator[Work]) -> None:
        progress = self.progress
        update = progress.update + 1
        batches = next(work)
        progress.epoch = batches.last.epoch
        progress.position = batches.last.position
        own = [self._gradients(update, part, batch=batch, step=step) for part, batch, step in batches.parts]
        self.processes.all_reduce(self.optimiser.total)
        for metrics, counts in self.processes.gather(own):
            add_counts(progress.weighting, counts)
            progress.tokens += int(metrics["tokens"])
            self.health.count(progress.health, metrics)
            del metrics["sentences"]
            for name, value in metrics.items():
                progress.add(name, value)
        norm = self.optimiser.step(update)
        if not math.isfinite(norm):
            raise NotFinite(
                f"update {update}: the gradient norm is {norm}; lower training.learning_rate, raise training.warmup, "
                f"or use training.precision float32"
            )
        progress.add("gradient_norm", norm)
        progress.update = update

    def _gradients(self, update: int, part: int, batch: Batch, step: Step) -> tuple[dict[str, float], dict[str, Any]]:
        """Add the gradients of a batch to those of the update; returns its metrics and the weighting's counts."""
        # a single process keeps the weighting's state from batch to batch
        counts = self.progress.weighting if self.processes.count == 1 else {}
        if self.weighting:
            batch = self.weighting(self.model, batch, step=step, state=counts)
        reseed_dropout(self.seed, update, part)
        torch.manual_seed(batch_seed(self.seed, update=update, part=part))
        loss = self.compute(self.model, batch, self.objective, step)
        total = loss.total if batch.scale is None else batch.scale * loss.total
        (total / self.settings.accumulate).backward()
        self.optimiser.collect()
        # one wait for the device, after all of its work was given to it
        value, *parts = torch.stack([x.detach().float() for x in (loss.total, *loss.parts.values())]).tolist()
        if not math.isfinite(value):
            raise NotFinite(
                f"update {update}: the loss is {value}; batch with ids {batch.ids[:5].tolist()} ... The weights "
                f"before it are kept. Lower training.learning_rate, raise training.warmup, or use "
                f"training.precision float32"
            )
        named = dict(zip(loss.parts, parts, strict=True))
        gone, infeasible = batch.gone
        sentences = len(batch.target_bt) + gone
        if OVERFULL.part in named:
            named[OVERFULL.part] = (named[OVERFULL.part] * len(batch.target_bt) + infeasible) / sentences
        metrics = {"loss": value, **named, "tokens": batch.target_tokens, "sentences": sentences}
        return metrics, {} if self.processes.count == 1 else counts

    def _log_training(self, log: TrainingLog) -> None:
        sums, progress = self.progress.sums, self.progress
        (tokens, _), (seconds, _) = sums.pop("tokens"), sums.pop("seconds")
        metrics = {name: total / count for name, (total, count) in sums.items()}
        metrics["tokens_per_second"] = tokens / max(1e-9, seconds)
        if self.weighting:
            metrics |= self.weighting.metrics(progress.weighting)
        metrics["learning_rate"] = learning_rate(self.settings, progress.update)
        sums.clear()
        log.add(progress.update, "train", metrics, progress.seconds)

    def _validate(self, log: TrainingLog) -> None:
        progress = self.progress
        self._check_alike()
        scores = self.processes.broadcast(self.validator(self.model) if self.processes.first else {})
        spent = {"processor_seconds": progress.processor_seconds}
        log.add(progress.update, "valid", scores | spent, progress.seconds)
        if reason := unused_encoder(self.objective, progress.rows, self.settings.max_updates):
            raise RetortError(reason)
        for name in ("loss", self.settings.select_by):
            if math.isnan(scores[name]):
                raise NotFinite(
                    f"update {progress.update}: {name} of the validation is {scores[name]}; lower "
                    f"training.learning_rate, raise training.warmup, or use training.precision float32"
                )
        metric = scores[self.settings.select_by] * self.settings.selection_sign
        progress.since_best = 0 if not progress.best or metric > progress.best[0][0] else progress.since_best + 1
        progress.best.append((metric, progress.update))
        progress.best.sort(key=lambda entry: (-entry[0], -entry[1]))
        del progress.best[self.settings.average_best :]
        self.health.check_validation(progress.health, progress.rows)
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
