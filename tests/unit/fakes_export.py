"""Checkpoints of tiny models with random weights whose outputs depend on their sources."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from retort import config
from retort.data.vocabulary import BLANK, BOS, EOS, MASK, PAD, UNK, Vocabulary
from retort.export import exact_search
from retort.export.exporting import export_system
from retort.models.base import EncoderDecoder
from retort.models.build import build_model
from retort.models.checkpoint import save_checkpoint
from tests.unit.fakes_training import small_vocabulary

SHAPE = {"d_model": 16, "heads": 2, "ffn": 24, "encoder_layers": 2, "decoder_layers": 2, "max_length": 40}
SHAPES: dict[str, dict[str, Any]] = {
    "default": {},
    "post-norm, gelu": {"norm": "post", "activation": "gelu", "decoder_layers": 1},
    "learned positions, untied": {"positions": "learned", "tied": "none"},
}


def wait_for_every_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs of models that have hardly been trained are about equally probable, so late ones may be the best."""
    monkeypatch.setattr(exact_search, "PATIENCE", 40)
    monkeypatch.setattr(exact_search, "PATIENCE_OF_LISTS", 40)


def text_vocabulary(directory: Path) -> Vocabulary:
    """40 pieces of random text."""
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefgh", k=4)) for _ in range(500)]
    return small_vocabulary(directory, [" ".join(words[i : i + 5]) for i in range(0, 500, 5)])


def saved(
    directory: Path, vocabulary: Vocabulary, objective: Any, seed: int = 2, unknown: float = 1.0, **changes: Any
) -> EncoderDecoder:
    """Write a checkpoint and return its model. A large ``unknown`` makes unk the most probable of many tokens."""
    torch.manual_seed(seed)
    shape = config.Model(**(SHAPE | changes))
    model = build_model(objective, shape, vocabulary).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            # biases and norms of a new model are all alike
            parameter.data += 0.1 * torch.randn_like(parameter)
        elif "cross_attention" in name:
            parameter.data *= 3
        elif name.startswith("relative."):
            torch.nn.init.normal_(parameter, std=0.3)
    model.embeddings.output.data[EOS] *= 1.4
    model.embeddings.output.data[UNK] *= unknown
    description = {"objective": objective.model_dump(), "model": shape.model_dump()}
    save_checkpoint(directory, dict(model.named_parameters()), description, vocabulary)
    return model


def exported(directory: Path, **objectives: Any) -> Path:
    """Write a model of each objective as the bundle of its name, and as the checkpoint <name>-checkpoint."""
    vocabulary = text_vocabulary(directory / "text")
    for name, objective in objectives.items():
        saved(directory / f"{name}-checkpoint", vocabulary, objective)
        export_system(directory / f"{name}-checkpoint", directory / name)
    return directory


def ending(directory: Path, vocabulary: Vocabulary, **changes: Any) -> Any:
    """Write a left-to-right model that, as trained ones do, ends most outputs before the limit and never emits a
    special token."""
    model: Any = saved(directory, vocabulary, config.Autoregressive(name="autoregressive"), **changes)
    norm = model.decoder.norm
    if not isinstance(norm, torch.nn.LayerNorm):
        norm = model.decoder.layers[-1].feed_forward_block.norm
    norm.weight.data[0], norm.bias.data[0] = 0, 4
    output_vd = model.embeddings.output.data
    output_vd[:, 0], output_vd[[PAD, BOS, UNK, MASK, BLANK], 0], output_vd[EOS, 0] = 0, -10, 0.4
    description = json.loads((directory / "model.json").read_text())
    save_checkpoint(directory, dict(model.named_parameters()), description, vocabulary)
    return model


def sources(vocabulary: Vocabulary, count: int = 60) -> list[list[int]]:
    """Random ones of 1 to 13 tokens."""
    rng = random.Random(5)
    return [[rng.randrange(6, vocabulary.source_size) for _ in range(rng.randrange(1, 14))] for _ in range(count)]
