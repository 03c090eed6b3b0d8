"""A tiny corpus, encoded, and the arguments of the scripts that train on it and decode it."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from retort.workflow.scripting import run_script
from workflow_scripts import encode_corpus, prepare_corpus, train_system, train_vocabulary

TRAIN_PAIRS, TEST_PAIRS = 60, 12
GREEDY, ARGMAX = {"kind": "greedy"}, {"kind": "argmax"}
SHAPE = {"d_model": 32, "heads": 2, "ffn": 32, "encoder_layers": 1, "decoder_layers": 1, "dropout": 0.0}
# Enough for most sentences to end before the length limit.
TRAINING = {
    "max_updates": 150,
    "warmup": 5,
    "learning_rate": 0.01,
    "batch_tokens": 256,
    "validate_every": 50,
    "decode_sentences": 4,
    "select_by": "loss",
    "average_best": 2,
    "final_weights": "mean",
    "precision": "float32",
}
TEACHER = {"objective": {"name": "autoregressive"}, "model": SHAPE, "training": TRAINING, "searches": {"g": GREEDY}}
STUDENT = {
    "objective": {"name": "vanilla"},
    "data": "distilled",
    "model": SHAPE,
    "training": TRAINING,
    "searches": {"a": ARGMAX},
}

DECODED = {"system": "teacher", "seed": 1, "search": "distillation"}
"""Columns of translations that name their decoder."""


def call(script: ModuleType, *arguments: object) -> None:
    run_script(script.parser(), script.main, [str(argument) for argument in arguments])


def changed(system: dict[str, Any], section: str, **values: Any) -> dict[str, Any]:
    """A copy of a system with keys of one section changed."""
    return {**system, section: {**system[section], **values}}


def changed_at(configuration: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a configuration with one key changed, such as "teacher.training.max_updates"."""
    result = copy.deepcopy(configuration)
    section = result
    *keys, last = path.split(".")
    for key in keys:
        section = section.setdefault(key, {})
    section[last] = value
    return result


@dataclass(frozen=True)
class Tables:
    """Where the tables of a tiny corpus lie."""

    root: Path

    @property
    def corpus(self) -> Path:
        return self.root / "corpus"

    @property
    def encoded(self) -> Path:
        return self.root / "encoded"

    @property
    def vocabulary(self) -> Path:
        return self.root / "vocabulary"

    @property
    def test(self) -> Path:
        return self.corpus / "test.test.parquet"

    def training(
        self, system: dict[str, Any], output: Path, state: Path, seed: int = 1, **options: object
    ) -> list[str]:
        """Arguments of train_system; ``options`` replace or add some."""
        arguments: dict[str, object] = {
            "system": json.dumps(system),
            "seed": seed,
            "data": system.get("data", "raw"),
            "train": self.encoded / "train.parquet",
            "valid": self.encoded / "valid.parquet",
            "vocabulary": self.vocabulary,
            "state": state,
            "output": output,
            **options,
        }
        return [text for name, value in arguments.items() for text in (f"--{name}", str(value))]

    def train(self, system: dict[str, Any], output: Path, seed: int = 1, **options: object) -> Path:
        """Train a system here; returns its checkpoint's directory."""
        call(train_system, *self.training(system, output, self.root / "state", seed, **options))
        return output


def make_tables(root: Path) -> Tables:
    """Generate, clean and encode a corpus."""
    tables = Tables(root)
    section = {"kind": "generated", "train_pairs": TRAIN_PAIRS, "valid_pairs": TEST_PAIRS, "test_pairs": TEST_PAIRS}
    call(prepare_corpus, "--corpus", json.dumps(section), "--output", tables.corpus)
    train = tables.corpus / "train.parquet"
    call(train_vocabulary, "--vocabulary", '{"size": 90}', "--corpus", train, "--output", tables.vocabulary)
    texts = [train, tables.corpus / "valid.parquet"]
    call(encode_corpus, "--vocabulary", tables.vocabulary, "--corpus", *texts, "--output", tables.encoded)
    return tables
