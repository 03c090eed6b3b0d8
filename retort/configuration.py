"""Loading a configuration: every problem found at once, each with its path and what would be right.

``python -m retort.configuration --schema`` prints the JSON schema for editors, ``--table`` the reference of all keys.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from retort.config import (
    AGREEING,
    PRETRAINED,
    PRETRAINING,
    SEARCHES_OF_OBJECTIVE,
    Bang,
    Config,
    Em,
    Evaluation,
    Model,
    Pretraining,
    System,
    TextCorpus,
    Vocabulary,
    complete,
    em_iteration,
    em_student,
    left_to_right,
    resolve,
)
from retort.config_checks import exposure_checks, label_checks, shape_differences, start_checks, truncation_checks
from retort.config_errors import Problem, nearest, problems_of
from retort.config_files import read_yaml
from retort.corpus.sources import mirror_directory
from retort.errors import RetortError

CHECKPOINT_FILES = ("model.safetensors", "model.json", "source.model", "target.model")
VOCABULARY_FILES = ("source.model", "target.model", "vocabulary.json")
RESERVED_TEST_SETS = ("train", "valid")


def load_config(source: Mapping[str, Any] | Path | str, where: str | None = None) -> Config:
    """Validate and complete a configuration given as a mapping or as the path of a YAML or JSON file.

    ``where`` names the source in errors. Raises RetortError that lists every problem, one a line.
    """
    if isinstance(source, Mapping):
        raw, where = dict(source), where or "configuration"
    else:
        raw, where = read_yaml(source), where or str(source)
    raw = {key: value for key, value in raw.items() if value is not None}
    config: Config | None = None
    problems: list[Problem] = []
    try:
        config = resolve(raw)
    except ValidationError as error:
        problems += problems_of(error, raw, Config)
    problems = list(dict.fromkeys([*problems, *cross_checks(raw, config)]))
    if problems or config is None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "\n".join(f"  {p.path or 'configuration'}: {p.message}" for p in problems)
        raise RetortError(f"{where}: {count}:\n{lines}\nEvery key is described in docs/configuration.md.")
    return config


def to_json(config: Config) -> str:
    """The resolved configuration as one line of JSON; ``load_config`` of it gives the same configuration."""
    return json.dumps(config.model_dump(mode="json"), sort_keys=False, ensure_ascii=False)


# ---- checks across sections -----------------------------------------------------------------------------------------


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
    corpus = raw.get("corpus")
    tests = corpus.get("tests") if isinstance(corpus, dict) else None
    for name in tests if isinstance(tests, dict) else ():
        if name in RESERVED_TEST_SETS:
            yield Problem(f"corpus.tests.{name}", "this name is a split's; choose another one for the test set")
    yield from _seed_checks("seeds", raw.get("seeds"))
    latency = raw.get("latency")
    sizes = latency.get("batch_sizes") if isinstance(latency, dict) else None
    if isinstance(sizes, list) and len({str(s) for s in sizes}) < len(sizes):
        yield Problem("latency.batch_sizes", f"{sizes} repeats a batch size; say each once")
    distillation = whole.get("distillation")
    search = distillation.get("search") if isinstance(distillation, dict) else None
    kind = search.get("kind") if isinstance(search, dict) else None
    if kind is not None and kind not in SEARCHES_OF_OBJECTIVE["autoregressive"]:
        yield Problem("distillation.search.kind", f"an autoregressive teacher cannot use {kind}; say beam or greedy")


def _teacher_checks(teacher: System) -> Iterator[Problem]:
    name = teacher.objective.name
    if name == "bang" and not left_to_right(teacher.objective):
        yield Problem("teacher.objective.nar_ratio", "the teacher decodes from left to right; say 0")
    elif name not in ("autoregressive", "bang"):
        yield Problem("teacher.objective.name", f"the teacher must be autoregressive, or bang, not {name}")
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
    for key, least, theirs in shape_differences(kind, system.model, start.model):
        own = getattr(system.model, key)
        yield Problem(f"{path}.model.{key}", f"warm_start {kind} needs {least}{whose} {theirs!r}, found {own!r}")


def _pretraining_checks(
    pretraining: Pretraining | None, vocabulary: Vocabulary | None, systems: Mapping[str, System]
) -> Iterator[Problem]:
    for path, system in systems.items():
        name = system.objective.name
        if name in PRETRAINING:
            yield Problem(f"{path}.objective.name", f"{name} is for pretraining.system; say {PRETRAINING[name]}")
        if system.training.warm_start != PRETRAINED or system.checkpoint:
            continue
        if pretraining is None:
            yield Problem(f"{path}.training.warm_start", "there is no pretraining section to start from")
        elif not pretraining.system.checkpoint:
            yield from _warm_start_checks(path, system, "pretraining.system's", pretraining.system)
    if pretraining is None:
        return
    system = pretraining.system
    if system.objective.name not in PRETRAINING:
        known = " or ".join(PRETRAINING)
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
    elif evaluator.objective.name not in AGREEING:
        able = " or ".join(AGREEING)
        yield Problem(where, f"{name} has objective {evaluator.objective.name}, which cannot evaluate; {able} can")


def _search_checks(path: str, system: System) -> Iterator[Problem]:
    if system.data in ("em", "selected"):
        yield Problem(f"{path}.data", f"{system.data} is made by the EM loop; say raw or distilled")
    if system.data == "monolingual":
        yield Problem(f"{path}.data", "monolingual text has no translations; say raw or distilled")
    if system.training.warm_start == "previous":
        yield Problem(f"{path}.training.warm_start", "say em.student_start: warm or em.teacher_start: warm instead")
    first = next(iter(system.searches.items()), None)
    if first and first[1].kind == "length_parallel" and first[1].rescore:
        where = f"{path}.searches.{first[0]}"
        yield Problem(
            where, "the first search validates the training, where no teacher rescores; put another one first"
        )


def _em_checks(em: Em, teacher: System) -> Iterator[Problem]:
    if teacher.objective.name != "autoregressive":
        yield Problem("teacher.objective.name", f"the EM loop needs autoregressive, not {teacher.objective.name}")
    if em.teacher.model.family == "gru" != teacher.model.family:
        yield Problem("em.teacher.model.family", "the loop's autoregressive models must be Transformers")
    if em.teacher_start == "warm" and em.iterations > 1:
        for key, _, theirs in shape_differences("previous", em.teacher.model, teacher.model):
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


# ---- files ----------------------------------------------------------------------------------------------------------


def check_files(config: Config) -> None:
    """Check that what the configuration names by a path is there and can be an input of the workflow.

    Raises RetortError that lists every problem.
    """
    problems: list[str] = []

    def directory(key: str, path: str | None, files: tuple[str, ...]) -> None:
        missing = [f for f in files if not (Path(path) / f).is_file()] if path else []
        if missing:
            problems.append(f"{key}: {path} lacks {', '.join(missing)}; expected a directory with {', '.join(files)}")

    def braces(key: str, path: str | None) -> None:
        if path and set(path) & set("{}"):
            problems.append(f"{key}: {path!r} holds a brace, which a workflow takes for a wildcard; rename it")

    keys = {"teacher": "teacher", PRETRAINED: "pretraining.system"}
    for name, system in config.trained.items():
        key = f"{keys.get(name, f'students.{name}')}.checkpoint"
        directory(key, system.checkpoint, CHECKPOINT_FILES)
        trained = _trained_objective(system.checkpoint)
        if trained is not None and trained != system.objective.name:
            problems.append(
                f"{key}: {system.checkpoint} was trained as {trained}; the objective here says {system.objective.name}"
            )
    directory("vocabulary.path", config.vocabulary.path, VOCABULARY_FILES)
    if config.distillation.corpus and not Path(config.distillation.corpus).is_file():
        problems.append(f"distillation.corpus: no file {config.distillation.corpus}; expected a translations table")
    texts = [*local_texts(config), *local_monolingual_texts(config)]
    for path in [config.vocabulary.path, config.distillation.corpus, *texts]:
        braces("path", path)
    for system in config.trained.values():
        braces("checkpoint", system.checkpoint)
    if problems:
        raise RetortError("files named in the configuration cannot be used:\n  " + "\n  ".join(problems))


def _trained_objective(checkpoint: str | None) -> Any:
    """The name of the objective that a checkpoint's description says; None where it cannot be read."""
    try:
        return (
            json.loads((Path(checkpoint) / CHECKPOINT_FILES[1]).read_text())["objective"]["name"]
            if checkpoint
            else None
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None


def local_texts(config: Config) -> list[str]:
    """Local text files the corpus is read from, in order, each once; none for a generated corpus."""
    if not isinstance(config.corpus, TextCorpus):
        return []
    pairs = [
        config.corpus.train,
        *([config.corpus.valid] if config.corpus.valid else []),
        *config.corpus.tests.values(),
    ]
    return _local([text.location for pair in pairs for text in [*pair.source, *pair.others]], config)


def local_monolingual_texts(config: Config) -> list[str]:
    """The same of the text that a model is pre-trained on."""
    return _local([text.location for text in config.pretraining.texts], config) if config.pretraining else []


def _local(texts: list[str], config: Config) -> list[str]:
    mirrored = mirror_directory(getattr(config.corpus, "mirror", None))
    return list(dict.fromkeys(t for t in texts if "://" not in t and (not mirrored or Path(t).is_file())))


def main(arguments: list[str]) -> None:
    """Print the JSON schema (--schema) or the table of keys (--table)."""
    from retort import config_docs

    writers = {"--schema": config_docs.schema, "--table": config_docs.table}
    if len(arguments) != 1 or arguments[0] not in writers:
        sys.exit("usage: python -m retort.configuration --schema | --table")
    sys.stdout.write(writers[arguments[0]]())


if __name__ == "__main__":
    main(sys.argv[1:])
