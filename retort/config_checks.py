"""Checks of a configuration across sections: starts from other systems, what is measured of which, cut sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from retort.config import (
    PRETRAINED,
    SAME_WEIGHTS,
    SEARCHES_OF_OBJECTIVE,
    STARTS,
    WEIGHT_OPTIONS,
    Evaluation,
    Model,
    System,
)
from retort.config_errors import Problem, nearest

LABELLED = ("raw", "distilled", "interpolated")
"""Data that the teacher's labels are stored for."""
REGULARISATION = ("dropout", "attention_dropout")
"""Keys of a model that its weights do not depend on."""
# What must be equal for the weights of one model's encoder to fit another one's.
ENCODER_SHAPE = ("family", "d_model", "heads", "ffn", "encoder_layers", "norm", "activation", "positions", "max_length")


def shape_differences(warm_start: str, own: Model, start: Model) -> Iterator[tuple[str, str, object]]:
    """Keys that keep a model from starting from another one as ``warm_start`` says: the key, "at least " or nothing,
    and the start's value. Where not all weights are taken, layers that the start lacks stay random."""
    keys = {"teacher_encoder": ENCODER_SHAPE, PRETRAINED: (*ENCODER_SHAPE, "decoder_layers", "tied")}.get(
        warm_start, tuple(key for key in Model.model_fields if key not in REGULARISATION)
    )
    deeper = warm_start in ("teacher_encoder", PRETRAINED)
    for key in keys:
        mine, theirs = getattr(own, key), getattr(start, key)
        if deeper and key.endswith("_layers"):
            if mine < theirs:
                yield key, "at least ", theirs
        elif mine != theirs:
            yield key, "", theirs


def start_checks(path: str, system: System, systems: Mapping[str, System]) -> Iterator[Problem]:
    """Problems of a system, at ``path``, that starts from all weights of another one."""
    name, where = system.training.warm_start, f"{path}.training.warm_start"
    if name in STARTS or system.checkpoint or path == "teacher":
        return
    if name not in systems:
        yield Problem(where, f"no system is named {name!r}; {nearest(name, [*STARTS[:-1], *systems])}")
        return
    chain = [path.removeprefix("students."), name]
    while chain[-1] not in chain[:-1] and systems[chain[-1]].training.warm_start in systems:
        chain.append(systems[chain[-1]].training.warm_start)
    if chain[-1] in chain[:-1]:
        yield Problem(where, f"{' starts from '.join(chain)}; one of them must start from something else")
        return
    start = systems[name]
    own, theirs = system.objective.name, start.objective.name
    if own != theirs and not any({own, theirs} <= set(names) for names in SAME_WEIGHTS):
        yield Problem(where, f"a model trained as {own} cannot start from one of {theirs}; name another system")
    elif not start.checkpoint:
        for key in WEIGHT_OPTIONS:
            found, needed = getattr(system.objective, key, False), getattr(start.objective, key, False)
            if found != needed:
                yield Problem(f"{path}.objective.{key}", f"warm_start {name} needs {needed!r}, found {found!r}")
        for key, least, needed in shape_differences(name, system.model, start.model):
            found = getattr(system.model, key)
            yield Problem(f"{path}.model.{key}", f"warm_start {name} needs {least}{needed!r}, found {found!r}")


def label_checks(path: str, system: System) -> Iterator[Problem]:
    """Problems of a system, at ``path``, that reads stored labels."""
    if getattr(system.objective, "needs_labels", False) and system.data not in LABELLED:
        yield Problem(f"{path}.data", f"no labels are stored for {system.data} text; say {' or '.join(LABELLED)}")


def exposure_checks(evaluation: Evaluation | None, students: Mapping[str, System]) -> Iterator[Problem]:
    """Problems of the systems whose exposure bias is to be measured."""
    names = evaluation.exposure.systems if evaluation else []
    left_to_right = [n for n, s in students.items() if "greedy" in SEARCHES_OF_OBJECTIVE[s.objective.name]]
    for name in names:
        if name not in left_to_right:
            hint = nearest(name, left_to_right)
            yield Problem("evaluation.exposure.systems", f"no student that decodes left to right is {name!r}; {hint}")
    if len(set(names)) < len(names):
        yield Problem("evaluation.exposure.systems", f"{names} repeats a name; say each once")


def truncation_checks(shared: Model | None, systems: Mapping[str, System]) -> Iterator[Problem]:
    """Encoded sources are cut once for all."""
    if shared is None:
        return
    for path, system in systems.items():
        keys = ("truncate_sources", *(("max_length",) if shared.truncate_sources else ()))
        for key in keys:
            own, theirs = getattr(system.model, key), getattr(shared, key)
            if own != theirs and not system.checkpoint:
                cut = "sources are cut for all systems alike" if shared.truncate_sources else "sources are not cut"
                yield Problem(f"{path}.model.{key}", f"{cut}: needs model.{key}, which is {theirs!r}, found {own!r}")
