"""Checkpoints of tiny models with random weights whose outputs depend on their sources."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from retort import config
from retort.data.vocabulary import EOS, UNK, Vocabulary
from retort.export import exact_search
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
