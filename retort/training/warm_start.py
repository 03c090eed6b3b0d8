"""Weights that a training starts from."""

from __future__ import annotations

from pathlib import Path

from retort.config import PRETRAINED, Model
from retort.config.starts import config_differences
from retort.data.vocabulary import Vocabulary
from retort.errors import RetortError
from retort.models.base import EncoderDecoder
from retort.models.checkpoint import load_weights, read_description, read_weights


def warm_start(model: EncoderDecoder, start: Path | None, kind: str, vocabulary: Vocabulary) -> None:
    """Copy weights of the checkpoint ``start`` into the model. Layers that the checkpoint lacks stay random.

    ``kind`` is training.warm_start. teacher_encoder: embeddings and encoder. pretrained: these, the decoder, and the
    family's own weights, but not the length predictor, which pre-training does not train. Any other value: all weights.
    Raises RetortError if there is no checkpoint, or if it does not fit.
    """
    if start is None:
        raise RetortError(f"training.warm_start is {kind}, but no --start was given")
    description = read_description(start)
    if description.get("vocabulary") != vocabulary.digest:
        raise RetortError(f"{start}: trained with another vocabulary; its weights cannot be used: train it again")
    for key, least, needed in config_differences(kind, model.config, Model.model_validate(description["model"])):
        raise RetortError(f"{start}: to start from it model.{key} must be {least}{needed!r}")
    weights = read_weights(start)
    if kind not in (PRETRAINED, "teacher_encoder"):
        load_weights(model, weights, start)
        return
    sides = ("encoder", "decoder") if kind == PRETRAINED else ("encoder",)
    stacks = tuple(f"{side}.layers." for side in sides)
    layers = {".".join(name.split(".")[:3]) + "." for name in weights if name.startswith(stacks)}
    prefixes = ["embeddings.", *(f"{side}.norm." for side in sides), *sorted(layers)]
    if kind == PRETRAINED:
        prefixes += [name for name in weights if name.startswith(model.own_weights)]
    for prefix in prefixes:
        load_weights(model, weights, where=start, prefix=prefix)
