"""The files of one training, and what is made from them: the model with the weights it starts from, and its trainer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from retort.config import Data, SearchSection, System
from retort.data.batches import EncodedCorpus
from retort.data.provenance import file_digest
from retort.data.tables import ENCODED, MIXED
from retort.data.teacher_labels import StoredLabels
from retort.data.vocabulary import Vocabulary
from retort.errors import RetortError
from retort.models.base import EncoderDecoder
from retort.models.build import build_model
from retort.models.checkpoint import load_teacher, weights_digest
from retort.models.kernels import reseed_dropout
from retort.training.distributed.processes import Processes
from retort.training.interruption import Interruption
from retort.training.loop import Trainer
from retort.training.state import TrainingState
from retort.training.validation import Validator
from retort.training.warm_start import warm_start
from retort.training.weighting import samples_of_kinds, weighting_of

if TYPE_CHECKING:
    from retort.models.autoregressive import AutoregressiveModel

SAMPLED = 500
"""Training pairs of each kind whose loss is logged at each validation, where there are kinds."""


def first_search(system: System) -> SearchSection:
    """The search that validates."""
    return next(iter(system.searches.values()))


@dataclass(frozen=True)
class TrainingInputs:
    """What one training reads."""

    data: Data
    """What ``train`` holds."""
    train: Path
    """Encoded table, or a mixed one."""
    valid: Path
    """Encoded table."""
    vocabulary: Path
    """Its directory."""
    start: Path | None = None
    """Checkpoint that ``training.warm_start`` starts from."""
    teacher: Path | None = None
    """Checkpoint that the objective asks."""
    agreement: Path | None = None
    """Agreement table of a selective mixture's evaluator."""
    labels: Path | None = None
    """Labels table, for an objective that reads one."""

    def digests(self, system: System, vocabulary: Vocabulary) -> dict[str, str]:
        """Digests of everything that the system's training reads."""
        inputs = {"train": file_digest(self.train), "valid": file_digest(self.valid), "vocabulary": vocabulary.digest}
        if self.start:
            inputs["start"] = weights_digest(self.start)
        if system.objective.needs_teacher and self.teacher:
            inputs["teacher"] = weights_digest(self.teacher)
        if self.agreement:
            inputs["agreement"] = file_digest(self.agreement)
        if self.labels:
            inputs["labels"] = file_digest(self.labels)
        return inputs

    def build_model(self, system: System, vocabulary: Vocabulary, seed: int, device: torch.device) -> EncoderDecoder:
        """The model, with the weights it starts from. Raises RetortError if those are missing or do not fit."""
        torch.manual_seed(seed)
        reseed_dropout(seed)
        model = build_model(system.objective, system.model, vocabulary).to(device)
        if system.training.warm_start != "none":
            warm_start(model, self.start, system.objective, system.training, vocabulary=vocabulary)
        return model

    def load_teacher(
        self, system: System, vocabulary: Vocabulary, device: torch.device, dtype: torch.dtype
    ) -> AutoregressiveModel | None:
        """The teacher that the objective asks, if it asks one. Raises RetortError if there is none, or if it cannot
        read the student's text."""
        objective = system.objective
        if not objective.needs_teacher:
            return None
        if self.teacher is None:
            raise RetortError(f"objective {objective.name} asks a teacher, but no --teacher was given")
        longest = system.model.max_length
        return load_teacher(self.teacher, self.vocabulary, vocabulary, device=device, dtype=dtype, max_length=longest)

    def trainer(
        self,
        system: System,
        model: EncoderDecoder,
        vocabulary: Vocabulary,
        seed: int,
        dtype: torch.dtype,
        state: TrainingState,
        digests: dict[str, str],
        teacher: AutoregressiveModel | None = None,
        deadline: float = math.inf,
        processes: Processes | None = None,
        interruption: Interruption | None = None,
    ) -> Trainer:
        """The trainer, with its data read. ``digests``: those of these inputs, which stored labels have to be of.

        Raises RetortError if a table cannot be read, or if tables and vocabulary do not belong together.
        """
        training = system.training
        table = MIXED if self.data == "mixed" else ENCODED
        drop_longer = training.long_pairs == "drop"
        corpus = EncodedCorpus.read(self.train, system.model.max_length, table, drop_longer, paired=True)
        validation = EncodedCorpus.read(self.valid, system.model.max_length, drop_longer=drop_longer)
        corpus.check_vocabulary(self.train, vocabulary)
        validation.check_vocabulary(self.valid, vocabulary)
        validator = Validator(
            validation,
            vocabulary,
            objective=system.objective,
            search=first_search(system),
            sentences=training.decode_sentences,
            tokens=training.batch_tokens,
            metrics=training.validation_metrics,
            others=samples_of_kinds(corpus, SAMPLED),
            tokenizer=training.tokenizer,
        )
        weighting = weighting_of(system, corpus, train=self.train, agreement=self.agreement, seed=seed)
        if system.mixture and system.mixture.kind == "selective":
            # one sample of each source has a weight
            planned = training.batch_tokens * len(corpus) / len(np.unique(corpus.ids))
            training = training.model_copy(update={"batch_tokens": round(planned)})
        return Trainer(
            model,
            system.objective,
            corpus=corpus,
            validator=validator,
            settings=training,
            seed=seed,
            dtype=dtype,
            state=state,
            teacher=teacher,
            deadline=deadline,
            weighting=weighting,
            labels=self._stored_labels(system, corpus, digests) if system.objective.needs_labels else None,
            processes=processes,
            interruption=interruption,
        )

    def _stored_labels(self, system: System, corpus: EncodedCorpus, digests: dict[str, str]) -> StoredLabels:
        """The labels of the training text. Raises RetortError if there are none, or if they are of another text."""
        if self.labels is None or system.objective.stored_top_k is None:
            raise RetortError(f"objective {system.objective.name} reads stored labels, but no --labels was given")
        labels = StoredLabels.read(self.labels, system.objective.stored_top_k)
        made_from = {name: digests[name] for name in ("train", "vocabulary")}
        if self.teacher:
            made_from["teacher"] = weights_digest(self.teacher)
        labels.check(self.labels, corpus.ids, lengths=corpus.target.lengths, made_from=made_from)
        return labels
