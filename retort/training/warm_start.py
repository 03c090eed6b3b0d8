"""Weights that a training starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from retort.config import PRETRAINED, ObjectiveSection, Training
from retort.config.starts import config_differences, objective_differences, with_layers
from retort.data.vocabulary import Vocabulary
from retort.errors import RetortError
from retort.models.base import EncoderDecoder
from retort.models.checkpoint import described, described_weights, load_weights, read_description


def warm_start(
    model: EncoderDecoder, start: Path | None, objective: ObjectiveSection, training: Training, vocabulary: Vocabulary
) -> None:
    """Copy weights of the checkpoint ``start`` into the model. Layers that the checkpoint lacks stay random.

    ``objective`` is the model's. ``training.warm_start`` teacher_encoder: embeddings and encoder. pretrained: these,
    the decoder, and the family's own weights, but not the length predictor, which pre-training does not train. Any
    other value: all weights. Raises RetortError if there is no checkpoint, or if it does not fit.
    """
    kind = training.warm_start
    if start is None:
        raise RetortError(f"training.warm_start is {kind}, but no --start was given")
    description = read_description(start)
    if description.get("vocabulary") != vocabulary.digest:
        raise RetortError(f"{start}: trained with another vocabulary; its weights cannot be used: train it again")
    trained, theirs = described(start, description)
    for key, layers in training.start_layers.items():
        if theirs.family == "gru":
            raise RetortError(f"{start}: layers of a recurrent model cannot be chosen; remove training.start_{key}")
        depth = getattr(theirs, key)
        if max(layers) > depth:
            raise RetortError(f"{start}: training.start_{key} names layer {max(layers)}, and it has {depth}")
    for key, least, needed in config_differences(kind, model.config, with_layers(theirs, training)):
        raise RetortError(f"{start}: to start from it model.{key} must be {least}{needed!r}")
    if kind not in (PRETRAINED, "teacher_encoder"):
        for difference in objective_differences(objective, trained):
            raise RetortError(f"{start}: {difference}")
    weights = described_weights(start, description)
    for key, layers in training.start_layers.items():
        side = key.partition("_")[0]
        others = model.of_decoder_layers if side == "decoder" else {}
        weights = _chosen(weights, {f"{side}.layers.": 0, **others}, layers)
    if kind not in (PRETRAINED, "teacher_encoder"):
        load_weights(model, weights, start)
        return
    sides = ("encoder", "decoder") if kind == PRETRAINED else ("encoder",)
    stacks = tuple(f"{side}.layers." for side in sides)
    own = {".".join(name.split(".")[:3]) + "." for name in weights if name.startswith(stacks)}
    prefixes = ["embeddings.", *(f"{side}.norm." for side in sides), *sorted(own)]
    if kind == PRETRAINED:
        prefixes += [name for name in weights if name.startswith(model.own_weights)]
    for prefix in prefixes:
        load_weights(model, weights, where=start, prefix=prefix)


def _chosen(weights: dict[str, Tensor], stacks: Mapping[str, int], layers: list[int]) -> dict[str, Tensor]:
    """The weights with these layers alone, counted from 1, which become the first, second, ... ones. ``stacks``: how
    the names of a layer's weights begin, and how many first layers lack them."""
    chosen = {name: weight for name, weight in weights.items() if not name.startswith(tuple(stacks))}
    for stack, without in stacks.items():
        for place, layer in enumerate(layers):
            own = f"{stack}{layer - 1 - without}."
            names = [name for name in weights if name.startswith(own)]
            chosen |= {f"{stack}{place - without}.{name.removeprefix(own)}": weights[name] for name in names}
    return chosen
