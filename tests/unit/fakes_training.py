"""Small models, random sequences of tokens to copy or to reverse, and a trainer that finishes in seconds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from retort.config import (
    Autoregressive,
    Axe,
    Bang,
    BangPretraining,
    BartJanus,
    Cmlm,
    Ctc,
    Dag,
    Glat,
    GlatCtc,
    Janus,
    Model,
    Training,
    Vanilla,
)
from retort.config import Vocabulary as VocabularySettings
from retort.data.batches import EncodedCorpus, Ragged
from retort.data.vocabulary import SPECIAL_IDS, Vocabulary
from retort.data.vocabulary_training import train_vocabulary
from retort.models.base import EncoderDecoder
from retort.models.build import build_model
from retort.models.checkpoint import load_checkpoint, read_weights, save_checkpoint
from retort.models.kernels import reseed_dropout
from retort.training.loop import Trainer
from retort.training.state import TrainingState
from retort.training.validation import Validator
from retort.training.warm_start import warm_start

SYMBOLS = 10
OBJECTIVES = {
    "autoregressive": Autoregressive(name="autoregressive"),
    "vanilla": Vanilla(name="vanilla"),
    "cmlm": Cmlm(name="cmlm"),
    "janus": Janus(name="janus"),
    "bart_janus": BartJanus(name="bart_janus", least_encoder_gap=0),
    "bang": Bang(name="bang", nar_ratio=0.5),
    "bang_pretraining": BangPretraining(name="bang_pretraining", span_block=6, mask_ratio=0.5, least_encoder_gap=0),
    "glat": Glat(name="glat"),
    "axe": Axe(name="axe"),
    "ctc": Ctc(name="ctc"),
    "glat_ctc": GlatCtc(name="glat_ctc"),
    "dag": Dag(name="dag", upsampling=3),
}


class Numerals:
    """Stands in for a joint vocabulary: the text of a token is its number."""

    joint = True
    source_size = target_size = SPECIAL_IDS + SYMBOLS

    def decode_target(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        return [" ".join(map(str, ids)) for ids in tokens]


def sequences(pairs: int, seed: int, reverse: bool = False, repeats: bool = True) -> EncodedCorpus:
    """Random sequences of 2 to 6 tokens of SYMBOLS kinds; the target is the source, or the source from its end."""
    rng = random.Random(seed)
    symbols = range(SPECIAL_IDS, SPECIAL_IDS + SYMBOLS)
    draw = rng.choices if repeats else rng.sample
    sources = [draw(symbols, k=rng.randint(2, 6)) for _ in range(pairs)]
    targets = [tokens[::-1] if reverse else tokens for tokens in sources]
    return EncodedCorpus(np.arange(pairs), Ragged.from_lists(sources), Ragged.from_lists(targets))


def small_model(objective: Any, seed: int = 1, **shape: Any) -> EncoderDecoder:
    """One layer a side and 32 wide, unless ``shape`` says otherwise."""
    sizes = {"d_model": 32, "heads": 2, "ffn": 64, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
    torch.manual_seed(seed)
    reseed_dropout(seed)
    return build_model(objective, Model(**{**sizes, **shape}), Numerals())  # type: ignore[arg-type]


def trainer(
    state: Path,
    name: str,
    train: EncodedCorpus,
    valid: EncodedCorpus,
    search: Any,
    dropout: float = 0.0,
    **settings: Any,
) -> Trainer:
    """A trainer of a small model with the objective of this name, on one thread in float32."""
    torch.set_num_threads(1)
    objective = OBJECTIVES[name]
    defaults = {"batch_tokens": 1024, "precision": "float32", "decode_sentences": 100, "average_best": 1}
    training = Training(**{**defaults, **settings})
    decoded = (training.decode_sentences, 4096, training.validation_metrics)
    validator = Validator(valid, Numerals(), objective, search, *decoded)  # type: ignore[arg-type]
    model = small_model(objective, dropout=dropout)
    return Trainer(model, objective, train, validator, training, 1, torch.float32, TrainingState(state, "key"))


def assert_pretrained_starts(
    directory: Path, vocabulary: Vocabulary, start: Any, shape: Model, objective: Any, **layers: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A student with more ``layers`` starts from a model of ``start``; what both have is the model's then, lengths
    aside. Returns the weights of the student before that, and those of the model."""
    torch.manual_seed(1)
    model = build_model(start, shape, vocabulary)
    for parameter in model.parameters():
        parameter.data.normal_()
    description = {"objective": start.model_dump(), "model": shape.model_dump()}
    save_checkpoint(directory, dict(model.named_parameters()), description, vocabulary)
    assert type(load_checkpoint(directory, torch.device("cpu")).model) is type(model)
    student = build_model(objective, shape.model_copy(update=layers), vocabulary)
    before = {name: parameter.clone() for name, parameter in student.named_parameters()}
    warm_start(student, directory, objective, Training(warm_start="pretrained"), vocabulary)
    pretrained = read_weights(directory)
    for name, parameter in student.named_parameters():
        taken = name in pretrained and not name.startswith("length")
        assert torch.equal(parameter, pretrained[name] if taken else before[name]), name
    return before, pretrained


class Stop(Exception):
    """Ends a training that is to be resumed."""


def interrupt(trainer: Trainer, events: Path, update: int) -> None:
    """Run a training until it has made this many updates."""
    compute = trainer.compute

    def interrupted(model: Any, batch: Any, options: Any, step: Any) -> Any:
        if trainer.progress.update == update:
            raise Stop
        return compute(model, batch, options, step)

    trainer.compute = interrupted
    with pytest.raises(Stop):
        trainer.run(events)


def small_vocabulary(directory: Path, sentences: Sequence[str], joint: bool = True, size: int = 40) -> Vocabulary:
    """A vocabulary trained on these sentences; the target side of a separate one is trained on their reverse."""
    from retort.data.parquet import write_table
    from retort.data.references import corpus_table
    from retort.data.tables import CORPUS

    table = corpus_table(range(len(sentences)), sentences, [[text[::-1]] for text in sentences])
    write_table(directory / "corpus.parquet", CORPUS, table)
    settings = VocabularySettings(size=size, joint=joint)
    return train_vocabulary(directory / "corpus.parquet", settings, 1, directory / "vocabulary")
