"""Checks of a configuration across sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from pydantic import TypeAdapter, ValidationError

from retort.config.corpus import Vocabulary
from retort.config.em import Em, em_iteration, em_student
from retort.config.evaluation import Evaluation
from retort.config.model import Model
from retort.config.objectives import Autoregressive, Bang, names_where
from retort.config.problems import Problem, nearest
from retort.config.run import Config, complete
from retort.config.systems import PRETRAINED, STARTS, Pretraining, System

WEIGHT_OPTIONS = ("length_from", "upsampling", "deep_supervision")
"""Keys of an objective that its model's weights depend on."""
LABELLED = ("raw", "distilled", "interpolated")
"""Data that the teacher's labels are stored for."""
REGULARISATION = ("dropout", "attention_dropout")
"""Keys of a model that its weights do not depend on."""
ENCODER_SHAPE = ("family", "d_model", "heads", "ffn", "encoder_layers", "norm", "activation", "positions", "max_length")


def cross_checks(raw: Mapping[str, Any], config: Config | None) -> Iterator[Problem]:
    """Problems that lie between sections; sections that are broken themselves (``config`` is None) are skipped."""
    whole = complete(dict(raw)) if config is None else config.model_dump()
    vocabulary = _part(Vocabulary, whole.get("vocabulary", {}))
    teacher = _part(System, whole.get("teacher"))
    given = whole.get("students")
    students = {n: s for n, v in (given if isinstance(given, dict) else {}).items() if (s := _part(System, v))}
    yield from _name_checks(raw, whole)
    if teacher is not None:
        yield from _teacher_checks(teacher)
    em = _part(Em, whole.get("em", {}))
    loop = {"em.student": em.student, "em.teacher": em.teacher} if em is not None and em.iterations else {}
    named = {"teacher": teacher} if teacher else {}
    every = {**named, **{f"students.{name}": s for name, s in students.items()}, **loop}
    for path, system in every.items():
        yield from _seed_checks(f"{path}.seeds", system.seeds)
        if vocabulary is not None and not vocabulary.joint and system.model.tied == "all" and not system.checkpoint:
            own = _own_section(raw, path, "model")
            where = f"{path}.model.tied" if "tied" in own else "model.tied"
            yield Problem(where, '"all" needs vocabulary.joint: true; say tied: output, or make one vocabulary')
        yield from _search_checks(path, system)
        yield from _interpolation_checks(path, system, whole.get("distillation"))
        yield from _evaluator_checks(path, system, students)
    yield from truncation_checks(_part(Model, whole.get("model", {})), every)
    yield from exposure_checks(_part(Evaluation, whole.get("evaluation", {})), students)
    pretraining = _part(Pretraining, whole.get("pretraining"))
    yield from _pretraining_checks(pretraining, vocabulary, every)
    if teacher is not None and not teacher.checkpoint:
        for path, system in {**{f"students.{name}": s for name, s in students.items()}, **loop}.items():
            if system.training.warm_start == "teacher_encoder" and not system.checkpoint:
                yield from _warm_start_checks(path, system, "the teacher's", teacher)
    for path, system in every.items():
        yield from start_checks(path, system, {**named, **students})
        yield from label_checks(path, system)
    if teacher is not None and em is not None and em.iterations:
        yield from _em_checks(em, teacher)


def _name_checks(raw: Mapping[str, Any], whole: dict[str, Any]) -> Iterator[Problem]:
    given = whole.get("students")
    systems = ["teacher", *(str(n) for n in (given if isinstance(given, dict) else {}))]
    for name, whose in (("teacher", "the teacher's"), (PRETRAINED, "pretraining's")):
        if name in systems[1:]:
            yield Problem(f"students.{name}", f"this name is {whose}; choose another one")
    for name in systems[1:]:
        if em_iteration(name):
            yield Problem(f"students.{name}", "this name is one of the EM loop's; choose another one")
    em = _part(Em, whole.get("em", {}))
    if em is not None and em.iterations:
        systems.append(em_student(1))
    evaluation = _part(Evaluation, whole.get("evaluation", {}))
    if evaluation and evaluation.baseline is not None and evaluation.baseline not in systems:
        hint = nearest(evaluation.baseline, systems)
        yield Problem("evaluation.baseline", f"no system is named {evaluation.baseline!r}; {hint}")
    for system, baselines in (evaluation.baselines if evaluation else {}).items():
        named = (system, baselines) if isinstance(baselines, str) else (system, *baselines)
        if not baselines:
            yield Problem(f"evaluation.baselines.{system}", "names no system; name one, or drop the line")
        for name in [n for n in named if n not in systems]:
            hint = nearest(name, systems)
            yield Problem(f"evaluation.baselines.{system}", f"no system is named {name!r}; {hint}")
    buckets = evaluation.length_buckets if evaluation else []
    if any(a >= b for a, b in pairwise(buckets)):
        yield Problem("evaluation.length_buckets", f"{buckets} do not grow; say each bound once, the shortest first")
    yield from _seed_checks("seeds", raw.get("seeds"))
    latency = raw.get("latency")
    sizes = latency.get("batch_sizes") if isinstance(latency, dict) else None
    if isinstance(sizes, list) and len({str(s) for s in sizes}) < len(sizes):
        yield Problem("latency.batch_sizes", f"{sizes} repeats a batch size; say each once")
    distillation = whole.get("distillation")
    search = distillation.get("search") if isinstance(distillation, dict) else None
    kind = search.get("kind") if isinstance(search, dict) else None
    if kind is not None and kind not in Autoregressive.searches():
        yield Problem("distillation.search.kind", f"an autoregressive teacher cannot use {kind}; say beam or greedy")


def _teacher_checks(teacher: System) -> Iterator[Problem]:
    objective = teacher.objective
    if not objective.can_teach:
        able = names_where("can_teach").replace(" or ", ", or ")
        yield Problem("teacher.objective.name", f"the teacher must be {able}, not {objective.name}")
    elif not objective.left_to_right:
        yield Problem("teacher.objective.nar_ratio", "the teacher decodes from left to right; say 0")
    if isinstance(teacher.objective, Bang) and teacher.objective.needs_teacher:
        yield Problem("teacher.objective.teacher_weight", "the teacher has no teacher; say 0")
    if teacher.model.family == "gru":
        yield Problem("teacher.model.family", "the teacher must be a Transformer; give the students their own family")
    if teacher.data in ("distilled", "mixed", "interpolated"):
        yield Problem("teacher.data", f"the teacher makes the {teacher.data} data, so it must learn from raw")
    if teacher.training.warm_start not in ("none", PRETRAINED):
        yield Problem(
            "teacher.training.warm_start", "the teacher cannot start from itself or a student; say none or pretrained"
        )


def _warm_start_checks(path: str, system: System, whose: str, start: System) -> Iterator[Problem]:
    kind = system.training.warm_start
    for key, least, theirs in config_differences(kind, system.model, start.model):
        own = getattr(system.model, key)
        yield Problem(f"{path}.model.{key}", f"warm_start {kind} needs {least}{whose} {theirs!r}, found {own!r}")


def _pretraining_checks(
    pretraining: Pretraining | None, vocabulary: Vocabulary | None, systems: Mapping[str, System]
) -> Iterator[Problem]:
    for path, system in systems.items():
        name, after = system.objective.name, system.objective.pretrains
        if after:
            yield Problem(f"{path}.objective.name", f"{name} is for pretraining.system; say {after}")
        if system.training.warm_start != PRETRAINED or system.checkpoint:
            continue
        if pretraining is None:
            yield Problem(f"{path}.training.warm_start", "there is no pretraining section to start from")
        elif not pretraining.system.checkpoint:
            yield from _warm_start_checks(path, system, "pretraining.system's", pretraining.system)
    if pretraining is None:
        return
    system = pretraining.system
    if not system.objective.pretrains:
        known = names_where("pretrains")
        yield Problem("pretraining.system.objective.name", f"pre-training is by {known}, not {system.objective.name}")
    if system.data != "monolingual":
        yield Problem("pretraining.system.data", f"pre-training is on monolingual text; leave out {system.data}")
    if system.training.warm_start != "none":
        yield Problem("pretraining.system.training.warm_start", "pre-training starts from nothing; say none")
    if system.model.max_length <= pretraining.block_tokens:
        least = pretraining.block_tokens + 1
        yield Problem("pretraining.block_tokens", f"blocks with eos need model.max_length of {least} or more")
    if vocabulary is not None and not vocabulary.joint:
        yield Problem("vocabulary.joint", "pretraining has one text for both sides and needs a joint vocabulary")


def _interpolation_checks(path: str, system: System, distillation: Any) -> Iterator[Problem]:
    search = distillation.get("search") if isinstance(distillation, dict) else None
    if system.data == "interpolated" and isinstance(search, dict) and search.get("kind", "beam") != "beam":
        yield Problem(f"{path}.data", f"interpolated needs distillation.search.kind beam, not {search['kind']}")


def _evaluator_checks(path: str, system: System, students: Mapping[str, System]) -> Iterator[Problem]:
    if system.mixture is None or system.mixture.kind != "selective":
        return
    name, where = system.mixture.evaluator, f"{path}.mixture.evaluator"
    evaluator = students.get(name)
    if evaluator is None:
        yield Problem(where, f"no student is named {name!r}; {nearest(name, students)}")
    elif evaluator.data != "distilled":
        yield Problem(where, f"an evaluator is trained on distilled data, and {name} on {evaluator.data}")
    elif not evaluator.objective.measures_agreement:
        able = names_where("measures_agreement")
        yield Problem(where, f"{name} has objective {evaluator.objective.name}, which cannot evaluate; {able} can")


def _search_checks(path: str, system: System) -> Iterator[Problem]:
    if system.data in ("em", "selected"):
        yield Problem(f"{path}.data", f"{system.data} is made by the EM loop; say raw or distilled")
    if system.data == "monolingual":
        yield Problem(f"{path}.data", "monolingual text has no translations; say raw or distilled")
    if system.training.warm_start == "previous":
        yield Problem(f"{path}.training.warm_start", "say em.student_start: warm or em.teacher_start: warm instead")
    first = next(iter(system.searches.items()), None)
    if first and not first[1].can_validate:
        where = f"{path}.searches.{first[0]}"
        yield Problem(
            where, "the first search validates the training, where no teacher rescores; put another one first"
        )


def _em_checks(em: Em, teacher: System) -> Iterator[Problem]:
    if not isinstance(teacher.objective, Autoregressive):
        yield Problem("teacher.objective.name", f"the EM loop needs autoregressive, not {teacher.objective.name}")
    if em.teacher.model.family == "gru" != teacher.model.family:
        yield Problem("em.teacher.model.family", "the loop's autoregressive models must be Transformers")
    if em.teacher_start == "warm" and em.iterations > 1:
        for key, _, theirs in config_differences("previous", em.teacher.model, teacher.model):
            own = getattr(em.teacher.model, key)
            yield Problem(f"em.teacher.model.{key}", f"em.teacher_start warm needs {theirs!r}, found {own!r}")
    if em.student.model.max_length < teacher.model.max_length:
        longest = f"it scores what the teacher says: needs at least the teacher's {teacher.model.max_length} tokens"
        yield Problem("em.student.model.max_length", f"{longest}, found {em.student.model.max_length}")
    for role, system in (("student", em.student), ("teacher", em.teacher)):
        if system.checkpoint:
            yield Problem(f"em.{role}.checkpoint", "the loop trains its systems; remove it")
        if system.data != "raw":
            yield Problem(f"em.{role}.data", "the loop's systems have its own texts; remove it")
    if em.teacher.seeds:
        yield Problem("em.teacher.seeds", "the loop has the seeds of em.student; remove it")


def _own_section(raw: Mapping[str, Any], path: str, section: str) -> Mapping[str, Any]:
    """What the user wrote in this section of the system at ``path``."""
    system: Any = raw
    for key in path.split(".", 1):
        system = system.get(key) if isinstance(system, dict) else None
    own = system.get(section) if isinstance(system, dict) else None
    return own if isinstance(own, dict) else {}


def _seed_checks(path: str, seeds: Any) -> Iterator[Problem]:
    if not isinstance(seeds, list):
        return
    if len({str(s) for s in seeds}) < len(seeds):
        yield Problem(path, f"{seeds} repeats a seed; say each once")
    if any(isinstance(s, int) and not 0 <= s < 2**63 for s in seeds):
        yield Problem(path, f"{seeds}: seeds are 0 or above, and below 2 to the 63")


def _part(model: Any, value: Any) -> Any:
    try:
        return TypeAdapter(model).validate_python(value)
    except ValidationError:
        return None


def config_differences(warm_start: str, own: Model, start: Model) -> Iterator[tuple[str, str, object]]:
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
    alike = system.objective.same_weights
    if own != theirs and (alike is None or alike != start.objective.same_weights):
        yield Problem(where, f"a model trained as {own} cannot start from one of {theirs}; name another system")
    elif not start.checkpoint:
        for key in WEIGHT_OPTIONS:
            found, needed = getattr(system.objective, key, False), getattr(start.objective, key, False)
            if found != needed:
                yield Problem(f"{path}.objective.{key}", f"warm_start {name} needs {needed!r}, found {found!r}")
        for key, least, needed in config_differences(name, system.model, start.model):
            found = getattr(system.model, key)
            yield Problem(f"{path}.model.{key}", f"warm_start {name} needs {least}{needed!r}, found {found!r}")


def label_checks(path: str, system: System) -> Iterator[Problem]:
    """Problems of a system, at ``path``, that reads stored labels."""
    if system.objective.needs_labels and system.data not in LABELLED:
        yield Problem(f"{path}.data", f"no labels are stored for {system.data} text; say {' or '.join(LABELLED)}")


def exposure_checks(evaluation: Evaluation | None, students: Mapping[str, System]) -> Iterator[Problem]:
    """Problems of the systems whose exposure bias is to be measured."""
    names = evaluation.exposure.systems if evaluation else []
    left_to_right = [n for n, s in students.items() if "next_token" in s.objective.predicts]
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
