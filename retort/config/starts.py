"""What a system may start from: the checks of ``training.warm_start``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from retort.config.model import Model
from retort.config.objective_base import ObjectiveSection
from retort.config.problems import Problem, nearest
from retort.config.systems import PRETRAINED, STARTS, System
from retort.config.training import Training

REGULARISATION = ("dropout", "attention_dropout")
"""Keys of a model that its weights do not depend on."""
ENCODER_KEYS = (
    *("family", "d_model", "heads", "ffn", "encoder_layers", "norm", "activation", "positions", "max_length", "tied"),
)
"""Keys of a model that the weights of its embeddings and encoder depend on."""


def config_differences(warm_start: str, own: Model, start: Model) -> Iterator[tuple[str, str, object]]:
    """Keys that keep a model from starting from another one in the way of ``warm_start``.

    Yields the key, "at least " or nothing, and the start's value. Where only some of the weights are used, layers that
    the start lacks stay random.
    """
    keys, may_be_deeper = _compared_keys(warm_start)
    for key in keys:
        mine, theirs = getattr(own, key), getattr(start, key)
        if may_be_deeper and key.endswith("_layers"):
            if mine < theirs:
                yield key, "at least ", theirs
        elif mine != theirs:
            yield key, "", theirs


def with_layers(start: Model, training: Training) -> Model:
    """A start's model with the chosen layers alone."""
    return start.model_copy(update={key: len(layers) for key, layers in training.start_layers.items()})


def _compared_keys(warm_start: str) -> tuple[tuple[str, ...], bool]:
    """Keys that must fit, and whether a model can have more layers than its start."""
    if warm_start == "teacher_encoder":
        return ENCODER_KEYS, True
    if warm_start == PRETRAINED:
        return (*ENCODER_KEYS, "decoder_layers"), True
    return tuple(key for key in Model.model_fields if key not in REGULARISATION), False


def difference_checks(path: str, system: System, start: System, whose: str = "") -> Iterator[Problem]:
    """Problems of a system, at ``path``, whose model does not fit the one it starts from; ``whose`` names that one
    where it has no checkpoint."""
    training, warm_start = system.training, system.training.warm_start
    whose = f"{start.checkpoint}'s " if start.checkpoint else whose
    for key, layers in training.start_layers.items():
        depth = getattr(start.model, key)
        if system.model.family == "gru":
            yield Problem(f"{path}.training.start_{key}", "layers of a recurrent model cannot be chosen; remove it")
        elif max(layers) > depth:
            yield Problem(f"{path}.training.start_{key}", f"names layer {max(layers)}, and the start has {depth}")
    for key, least, needed in config_differences(warm_start, system.model, with_layers(start.model, training)):
        own = getattr(system.model, key)
        yield Problem(f"{path}.model.{key}", f"warm_start {warm_start} needs {least}{whose}{needed!r}, found {own!r}")


def start_checks(
    path: str, system: System, systems: Mapping[str, System], known: Callable[[System], System | None]
) -> Iterator[Problem]:
    """Problems of a system, at ``path``, that starts from all weights of another one of ``systems``; ``known`` gives
    one with its checkpoint's objective and model."""
    name, where = system.training.warm_start, f"{path}.training.warm_start"
    remedy = system.objective.needs_start
    if name in ("none", "teacher_encoder") and remedy and not system.checkpoint:
        weights = system.objective.same_weights
        named = [other for other, start in systems.items() if start.objective.same_weights == weights]
        able = [other for other in named if f"students.{other}" != path]
        such = f" (such as {able[0]})" if able else ""
        yield Problem(where, f"{system.objective.name} starts from a trained system{such}: name one, or {remedy}")
    if name in STARTS or system.checkpoint or path == "teacher":
        return
    if name not in systems:
        yield Problem(where, f"no system is named {name!r}; {nearest(name, [*STARTS[:-1], *systems])}")
        return
    if circle := _circle(path.removeprefix("students."), name, systems):
        yield Problem(where, f"{circle}; one of them must start from something else")
        return
    start = systems[name]
    if not _same_weights(system.objective, start.objective):
        message = f"a model trained as {system.objective.name} cannot start from one of {start.objective.name}"
        yield Problem(where, f"{message}; name another system")
    elif trained := known(start):
        for key, mine, theirs in _option_differences(system.objective, trained.objective):
            yield Problem(f"{path}.objective.{key}", f"warm_start {name} needs {theirs!r}, found {mine!r}")
        yield from difference_checks(path, system, trained)


def objective_differences(own: ObjectiveSection, start: ObjectiveSection) -> Iterator[str]:
    """Why a model of the one objective cannot start from all weights of a model of the other."""
    if not _same_weights(own, start):
        yield f"trained as {start.name}; a model trained as {own.name} cannot start from it"
    else:
        for key, mine, theirs in _option_differences(own, start):
            yield f"to start from it objective.{key} must be {theirs!r}, found {mine!r}"


def _same_weights(own: ObjectiveSection, start: ObjectiveSection) -> bool:
    return own.name == start.name or (own.same_weights is not None and own.same_weights == start.same_weights)


def _option_differences(own: ObjectiveSection, start: ObjectiveSection) -> Iterator[tuple[str, object, object]]:
    """Keys of the objectives that weights depend on and that differ: with the own value and the start's."""
    mine, theirs = own.weight_options, start.weight_options
    for key in {**mine, **theirs}:
        if mine.get(key, False) != theirs.get(key, False):
            yield key, mine.get(key, False), theirs.get(key, False)


def _circle(system: str, start: str, systems: Mapping[str, System]) -> str:
    """How systems wait for one another, from one that starts from ``start``, if one waits for itself; else empty."""
    chains = [([system, start], f"{system} starts from {start}")]
    while chains:
        chain, words = chains.pop()
        if chain[-1] in chain[:-1]:
            return words
        awaited = _awaited(systems[chain[-1]])
        chains += [([*chain, name], f"{words} {link} {name}") for link, name in awaited if name in systems]
    return ""


def _awaited(system: System) -> Iterator[tuple[str, str]]:
    """Systems whose training a system's own waits for, and in which role."""
    if system.checkpoint:
        return
    yield "starts from", system.training.warm_start
    if system.mixture and system.mixture.kind == "selective":
        yield "whose evaluator is", system.mixture.evaluator
