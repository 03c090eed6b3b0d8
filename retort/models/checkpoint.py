"""Checkpoints: a directory with weights, description and vocabulary, which is all that translating needs.

Weights are float32 safetensors; nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from retort.config import Model, Objective, ObjectiveSection
from retort.data.files import check_file, read_bytes, read_text, write_bytes, write_json
from retort.data.provenance import file_digest, value_digest
from retort.data.vocabulary import Vocabulary
from retort.errors import RetortError
from retort.filenames import MODEL_DESCRIPTION, WEIGHTS
from retort.models.base import EncoderDecoder
from retort.models.build import build_model

if TYPE_CHECKING:
    from retort.models.autoregressive import AutoregressiveModel

DESCRIBED = "described_as"
"""Key of the weights' metadata: digest of the objective and the model."""
RENAMED = (("told.", "layer_fusion."),)
"""Prefixes of parameter names in version 0.1, each with today's."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint, its model in eval mode."""

    directory: Path
    model: EncoderDecoder
    vocabulary: Vocabulary
    description: dict[str, Any]

    @cached_property
    def objective(self) -> Any:
        """What the model was trained with, a section of the configuration."""
        return objective_of(self.description)


def save_checkpoint(
    directory: Path, weights: dict[str, Tensor], description: dict[str, Any], vocabulary: Vocabulary
) -> None:
    """Write a checkpoint, weights as float32. The description comes last: a directory without it is incomplete."""
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in weights.items()}
    content = save(tensors, {DESCRIBED: _identity(description)})
    write_bytes(directory / WEIGHTS, content)
    vocabulary.copy_to(directory)
    digests = {"vocabulary": vocabulary.digest, "weights": hashlib.sha256(content).hexdigest()}
    write_json(directory / MODEL_DESCRIPTION, description | digests)


def load_checkpoint(directory: Path | str, device: torch.device, dtype: torch.dtype = torch.float32) -> Checkpoint:
    """Raises RetortError if a file cannot be read or the files do not belong together."""
    directory = Path(directory)
    description = read_description(directory)
    vocabulary = Vocabulary.load(directory)
    if vocabulary.digest != description.get("vocabulary"):
        raise RetortError(f"{directory}: its vocabulary is not the one the model was trained with; restore both")
    objective, config = described(directory, description)
    check_shapes(directory, objective, config=config, vocabulary=vocabulary)
    weights = described_weights(directory, description)
    model = build_model(objective, config, vocabulary)
    load_weights(model, weights, directory)
    return Checkpoint(directory, model.to(device=device, dtype=dtype).eval(), vocabulary, description)


def described(directory: Path, description: dict[str, Any]) -> tuple[Any, Model]:
    """Objective and model of a checkpoint's description; raises RetortError if it is none."""
    try:
        return objective_of(description), Model.model_validate(description["model"])
    except (KeyError, ValidationError) as error:
        raise RetortError(f"{directory / MODEL_DESCRIPTION}: not a description of a model: {error}") from None


def objective_of(description: dict[str, Any]) -> Any:
    """The objective of a checkpoint, as a section of the configuration."""
    return TypeAdapter(Objective).validate_python(description["objective"])


def load_teacher(
    directory: Path | None,
    student: Path,
    vocabulary: Vocabulary,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    max_length: int = 0,
) -> AutoregressiveModel:
    """The autoregressive model that scores a student's candidates or labels its training text.

    ``student``: path for errors. ``vocabulary`` and ``max_length``: the student's; 0: no text is longer than the
    teacher reads. Raises RetortError if there is no teacher, if it is not autoregressive, if it was not trained to be,
    if it has another vocabulary, or if it is too short.
    """
    if directory is None:
        raise RetortError(
            f"{student}: the search has a teacher score its candidates, and none is given; give the directory of an "
            f"autoregressive checkpoint as its teacher"
        )
    checkpoint = load_checkpoint(directory, device, dtype)
    teacher = checkpoint.model
    if not teacher.teaches:
        raise RetortError(
            f"{directory}: a {teacher.family} model cannot be a teacher; give an autoregressive Transformer"
        )
    if checkpoint.objective.pretrains or not checkpoint.objective.learns_left_to_right:
        raise RetortError(
            f"{directory}: trained as {checkpoint.objective.name}, and not to translate from left to right, as a "
            f"teacher must; give an autoregressive checkpoint, or one of bang with nar_ratio below 1"
        )
    if checkpoint.vocabulary.digest != vocabulary.digest:
        raise RetortError(
            f"{directory}: the teacher's vocabulary is not that of {student}; give a teacher with the same vocabulary"
        )
    longest = teacher.config.max_length
    if longest < max_length:
        raise RetortError(
            f"{directory}: a teacher of at most {longest} tokens cannot read the text of a student of up to "
            f"{max_length}; take a student with model.max_length of {longest} or less"
        )
    return cast("AutoregressiveModel", teacher)


def read_description(directory: Path | str) -> dict[str, Any]:
    """JSON description of a checkpoint; raises RetortError if it cannot be read."""
    path = Path(directory) / MODEL_DESCRIPTION
    try:
        description = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RetortError(f"{path}: cannot be read ({reason}); expected a checkpoint's directory") from None
    if not isinstance(description, dict):
        raise RetortError(f"{path}: not a description of a model; expected a JSON object")
    return description


def check_shapes(directory: Path, objective: ObjectiveSection, config: Model, vocabulary: Vocabulary) -> None:
    """Compare names, shapes and types of the stored weights with the described model, before anything is allocated.

    Raises RetortError if they differ.
    """
    path = directory / WEIGHTS
    with _readable_weights(path), safe_open(path, "pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        stored = {current_name(name): (s.get_dtype(), s.get_shape()) for name, s in slices.items()}
    layers = config.encoder_layers + config.decoder_layers
    if layers > len(stored):
        raise RetortError(
            f"{path}: {len(stored)} weights, but {MODEL_DESCRIPTION} describes a model of {layers} layers"
        )
    try:
        with torch.device("meta"):
            model = build_model(objective, config, vocabulary)
    except RuntimeError as error:
        raise RetortError(f"{directory / MODEL_DESCRIPTION}: no such model can be built: {error}") from None
    expected = {name: ("F32", list(parameter.shape)) for name, parameter in model.named_parameters()}
    for name in sorted(stored.keys() | expected.keys()):
        if stored.get(name) != expected.get(name):
            actual, needed = (" ".join(map(str, x)) if x else "absent" for x in (stored.get(name), expected.get(name)))
            raise RetortError(
                f"{path}: weight {name} is {actual}, expected {needed} for the model in {MODEL_DESCRIPTION} "
                f"(objective {objective.name}); train or copy the checkpoint again"
            )


def _identity(description: dict[str, Any]) -> str:
    """Digest of what decides how weights are used: objective and model."""
    return value_digest({key: description[key] for key in ("objective", "model")})


def _check_identity(directory: Path, description: dict[str, Any]) -> None:
    """Raises RetortError if the weights were saved with another objective or model; version 0.1 did not store which."""
    path = directory / WEIGHTS
    with _readable_weights(path), safe_open(path, "pt") as file:
        stored = (file.metadata() or {}).get(DESCRIBED)
    if stored is not None and stored != _identity(description):
        raise RetortError(
            f"{directory}: {MODEL_DESCRIPTION} names another objective or model than these weights were trained with; "
            f"copy the checkpoint again"
        )


def described_weights(directory: Path, description: dict[str, Any]) -> dict[str, Tensor]:
    """The weights that a description was saved with; raises RetortError for others, as ``read_weights`` does."""
    _check_identity(directory, description)
    return read_weights(directory, description.get("weights"))


def weights_digest(directory: Path) -> str:
    """SHA-256 in hex of the file with a checkpoint's weights."""
    return file_digest(directory / WEIGHTS)


def read_weights(directory: Path | str, digest: str | None = None) -> dict[str, Tensor]:
    """The float32 weights of a checkpoint, by today's parameter name.

    ``digest``: SHA-256 that the file must have; version 0.1 stored none. Raises RetortError for other weights, and for
    some that are not finite.
    """
    path = Path(directory) / WEIGHTS
    with _readable_weights(path):
        content = read_bytes(path)
        if digest is not None and hashlib.sha256(content).hexdigest() != digest:
            raise RetortError(f"{path}: not the weights that were saved (another SHA-256); copy the checkpoint again")
        weights = {current_name(name): tensor for name, tensor in load(content).items()}
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise RetortError(f"{path}: weight {name} is not finite; train or copy the checkpoint again")
    return weights


@contextmanager
def _readable_weights(path: Path) -> Iterator[None]:
    try:
        check_file(path)
        yield
    except (OSError, SafetensorError) as error:
        raise RetortError(
            f"{path}: not readable as safetensors ({error}); train or copy the checkpoint again"
        ) from None


def current_name(name: str) -> str:
    """Today's name of a parameter that this version or version 0.1 saved."""
    for old, new in RENAMED:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def load_weights(model: EncoderDecoder, weights: dict[str, Tensor], where: Path | str, prefix: str = "") -> None:
    """Copy weights into the model's parameters whose names begin with ``prefix``.

    Raises RetortError if the weights of one are missing or have another shape; ``where`` is for errors.
    """
    for name, parameter in model.named_parameters():
        if not name.startswith(prefix):
            continue
        weight = weights.get(name)
        if weight is None or weight.shape != parameter.shape:
            shape = None if weight is None else list(weight.shape)
            raise RetortError(f"{where}: weight {name} is {shape}, expected {list(parameter.shape)}")
        parameter.data.copy_(weight)
