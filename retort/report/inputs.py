"""Everything that a report is made of, read and checked; parts that do not exist yet stay empty."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, ValidationError

from retort.config import EXTERNAL, Config, System, metric_named
from retort.config.load import load_config
from retort.corpus.cleaning import PRETRAINING
from retort.data.files import read_text
from retort.data.parquet import Table, read_provenance, read_table
from retort.data.references import references_of
from retort.data.runs import Run
from retort.data.tables import (
    CLEANING,
    COMPARISON,
    CORPUS,
    ENCODING,
    EXPOSURE,
    GUARDS,
    JUDGEMENT,
    LATENCY,
    LENGTHS,
    MULTIMODALITY,
    SCORES,
    TRAINING_LOG,
    TRANSLATIONS,
)
from retort.errors import RetortError
from retort.evaluation.runs import run_of_training, runs_of
from retort.filenames import CLEANING_TABLE, CORPUS_DESCRIPTION, MODEL_DESCRIPTION, test_set_of

Row = dict[str, Any]


@dataclass(frozen=True)
class Paths:
    """The files of each part; every part but the config may be missing."""

    config: Path
    corpus: Path | None = None
    encoding: Sequence[Path] = ()
    gathered: Sequence[Path] = ()
    pretraining: Sequence[Path] = ()
    scores: Sequence[Path] = ()
    comparison: Path | None = None
    latency: Path | None = None
    logs: Sequence[Path] = ()
    checkpoints: Sequence[tuple[Run, Path]] = ()
    translations: Sequence[Path] = ()
    multimodality: Sequence[Path] = ()
    guards: Sequence[Path] = ()
    judgement: Sequence[Path] = ()
    lengths: Sequence[Path] = ()
    exposure: Sequence[Path] = ()
    benchmarks: Path | None = None
    dag: Path | None = None


@dataclass(frozen=True)
class Source:
    """A table that the report was made from, and its provenance."""

    path: str
    table: str
    rows: int
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """Time and memory of a rule's jobs, from Snakemake's benchmark files."""

    rule: str
    jobs: int
    seconds: float
    longest_seconds: float
    largest_megabytes: float | None


@dataclass(frozen=True)
class Sample:
    """One test sentence and its translations by system name."""

    id: int
    source: str
    references: list[str]
    outputs: dict[str, str]

    def alike(self, systems: Iterable[str]) -> list[tuple[list[str], str | None]]:
        """Each distinct output and the systems that have it, in their order; None for those without one."""
        groups: dict[str | None, list[str]] = {}
        for system in systems:
            groups.setdefault(self.outputs.get(system), []).append(system)
        return [(group, output) for output, group in groups.items()]


class NamedObjective(BaseModel):
    """The objective of a checkpoint, which may be of a version that the configuration no longer knows."""

    name: str


class Checkpoint(BaseModel):
    """What a report uses of a checkpoint's description, model.json. One that was not trained here may lack parts."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    description: dict[str, Any]
    """All of it, to be shown."""
    directory: str = ""
    """Where it is."""
    objective: NamedObjective | None = None
    data: str | None = None
    parameters: int | None = None
    updates: int | None = None
    train_seconds: float | None = None
    validation: dict[str, float] = {}
    warnings: list[str] = []
    device: str | dict[str, Any] | None = None
    provenance: dict[str, Any] = {}

    def costs(self) -> dict[str, float]:
        """Size and cost of the training, as far as they are known."""
        costs = {"parameters": self.parameters, "updates": self.updates, "train_seconds": self.train_seconds}
        return {name: value for name, value in costs.items() if value is not None}


@dataclass
class Inputs:
    """The parts; tables are rows of plain values."""

    config: Config
    facts: dict[str, Any] = field(default_factory=dict)
    cleaning: list[Row] = field(default_factory=list)
    encoding: list[Row] = field(default_factory=list)
    gathered: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By the path of a training text made of outputs: how many outputs there are, and how many are left out."""
    scores: list[Row] = field(default_factory=list)
    comparison: list[Row] = field(default_factory=list)
    baseline: str = ""
    latency: list[Row] = field(default_factory=list)
    latency_provenance: dict[str, Any] = field(default_factory=dict)
    multimodality: list[Row] = field(default_factory=list)
    guards: list[pa.Table] = field(default_factory=list)
    judgement: list[Row] = field(default_factory=list)
    lengths: list[Row] = field(default_factory=list)
    exposure: list[Row] = field(default_factory=list)
    logs: dict[Run, list[Row]] = field(default_factory=dict)
    checkpoints: dict[Run, Checkpoint] = field(default_factory=dict)
    samples_of: str = ""
    sampled_test: Path | None = None
    """Corpus table of that test set."""
    translated: dict[Run, Path] = field(default_factory=dict)
    """Translations tables."""
    sampled: dict[str, Run] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    dag: str = ""
    sources: list[Source] = field(default_factory=list)

    @property
    def systems(self) -> dict[str, System]:
        """The config's systems by name: the teacher, the students, those of the EM loop."""
        return self.config.systems

    @property
    def metrics(self) -> list[str]:
        """The quality metrics, in the config's order."""
        return [*self.config.evaluation.metrics, *self.config.evaluation.learned]

    @property
    def leading(self) -> str:
        """The metric that figures and gaps are in."""
        return self.metrics[0]

    @property
    def leading_sign(self) -> int:
        """1 where higher values of the leading metric are better, else -1."""
        return 1 if metric_named(self.leading).higher_is_better else -1

    def order(self, system: str, search: str = "") -> tuple[int, int, str, str]:
        """Sort key: the external teacher, the config's order of systems and searches, unknown ones last by name."""
        systems, searches = [EXTERNAL, *self.systems], self.config.searches_of(system)
        return (
            systems.index(system) if system in systems else len(systems),
            searches.index(search) if search in searches else len(searches),
            system,
            search,
        )

    def rows_in_order(self, rows: Iterable[Row]) -> list[Row]:
        """Rows with a system, perhaps a search, and a seed, in the order of ``runs_in_order``."""
        return sorted(rows, key=lambda row: self._run_order(Run(row["system"], row["seed"], row.get("search", ""))))

    def runs_in_order(self, runs: Iterable[Run]) -> list[Run]:
        """Runs in the order of ``order`` and of the config's seeds: a system's first seed comes first."""
        return sorted(runs, key=self._run_order)

    def _run_order(self, run: Run) -> tuple[Any, ...]:
        seeds = self.config.seeds_of(run.system) if run.system in [EXTERNAL, *self.systems] else []
        place = seeds.index(run.seed) if run.seed in seeds else len(seeds)
        return *self.order(run.system, run.search), place, run.seed

    @property
    def training_data(self) -> dict[str, str]:
        """What each system that has scores was trained on."""
        return {row["system"]: row["data"] for row in self.scores}


def read_inputs(paths: Paths) -> Inputs:
    """Read every part; raises RetortError for a part that is given and not readable."""
    inputs = Inputs(config=load_config(_json(paths.config), str(paths.config)))
    for path in paths.scores:
        inputs.scores += _rows(inputs, path, SCORES)
    if paths.comparison:
        inputs.comparison = _rows(inputs, paths.comparison, COMPARISON)
        first = inputs.comparison[0]["baseline"] if inputs.comparison else ""
        inputs.baseline = str(inputs.sources[-1].provenance.get("baseline", first))
    if paths.latency:
        inputs.latency = _rows(inputs, paths.latency, LATENCY)
        inputs.latency_provenance = inputs.sources[-1].provenance
    for path in paths.multimodality:
        inputs.multimodality += _rows(inputs, path, MULTIMODALITY)
    for path in paths.lengths:
        inputs.lengths += _rows(inputs, path, LENGTHS)
    for path in paths.exposure:
        inputs.exposure += _rows(inputs, path, EXPOSURE)
    for path in paths.judgement:
        inputs.judgement += _rows(inputs, path, JUDGEMENT)
    inputs.guards = [read_table(path, GUARDS) for path in paths.guards]
    for path in paths.logs:
        inputs.logs[run_of_training(path.parent)] = _rows(inputs, path, TRAINING_LOG)
    for run, directory in paths.checkpoints:
        inputs.checkpoints[run] = _checkpoint(directory / MODEL_DESCRIPTION)
    for path in paths.encoding:
        inputs.encoding += _rows(inputs, path, ENCODING)
    inputs.gathered = {str(path): read_provenance(path) for path in paths.gathered}
    if paths.corpus:
        _read_corpus(inputs, paths.corpus)
        _read_samples(inputs, paths.corpus, paths.translations)
    for path in paths.pretraining:
        lines = read_provenance(path)["lines"]
        inputs.cleaning += [{"split": PRETRAINING, "reason": reason, "pairs": n} for reason, n in lines.items()]
    if paths.benchmarks:
        inputs.stages = read_stages(paths.benchmarks)
    if paths.dag:
        inputs.dag = _text(paths.dag)
    return inputs


def read_stages(directory: Path) -> list[Stage]:
    """Sum Snakemake's benchmark files ``<directory>/<rule>/**.tsv`` by rule, the longest first."""
    jobs_of_rules: dict[str, list[tuple[float, float | None]]] = {}
    for path in sorted(directory.rglob("*.tsv")):
        rule = path.relative_to(directory).parts[0].removesuffix(".tsv")
        lines = [line.split("\t") for line in _text(path).splitlines() if line.strip()]
        if not lines or "s" not in lines[0]:
            raise RetortError(f"{path}: not a Snakemake benchmark file; expected a column 's'; delete it")
        for line in lines[1:]:
            job = dict(zip(lines[0], line, strict=False))
            seconds = _number(job.get("s"))
            if seconds is not None:
                jobs_of_rules.setdefault(rule, []).append((seconds, _number(job.get("max_rss"))))
    stages = []
    for rule, jobs in jobs_of_rules.items():
        times = [job[0] for job in jobs]
        memory = [job[1] for job in jobs if job[1] is not None]
        stages.append(
            Stage(
                rule=rule,
                jobs=len(jobs),
                seconds=sum(times),
                longest_seconds=max(times),
                largest_megabytes=max(memory, default=None),
            )
        )
    return sorted(stages, key=lambda stage: -stage.seconds)


def sample_ids(ids: list[int], count: int) -> list[int]:
    """``count`` ids evenly spread over ``ids``, the first one included; all of them when there are fewer."""
    if count >= len(ids):
        return list(ids)
    return [ids[index * len(ids) // count] for index in range(count)]


def best_outputs(path: Path, test_set: str) -> pa.Table:
    """The outputs of rank 0 of one test set in a translations table: their ids and texts."""
    data = read_table(path, TRANSLATIONS, ["id", "test_set", "rank", "text"])
    return data.filter(pc.and_(pc.equal(data["test_set"], test_set), pc.equal(data["rank"], 0)))


def _read_corpus(inputs: Inputs, directory: Path) -> None:
    if (directory / CLEANING_TABLE).exists():
        inputs.cleaning = _rows(inputs, directory / CLEANING_TABLE, CLEANING)
    if (directory / CORPUS_DESCRIPTION).exists():
        inputs.facts = _json(directory / CORPUS_DESCRIPTION)


def _read_samples(inputs: Inputs, directory: Path, translations: Sequence[Path]) -> None:
    """Fill the samples from the first test set, each system with its first search and first seed."""
    tests = sorted(directory.glob("test.*.parquet"))
    names = inputs.config.corpus.test_names
    tests.sort(key=lambda path: names.index(test_set_of(path)) if test_set_of(path) in names else len(names))
    count = inputs.config.report.sample_sentences
    if not tests or not count:
        return
    inputs.samples_of, inputs.sampled_test = test_set_of(tests[0]), tests[0]
    corpus = read_table(tests[0], CORPUS).sort_by("id")
    ids = sample_ids(corpus["id"].to_pylist(), count)
    runs = runs_of(translations)
    inputs.translated = {run: path for path, run in runs.items()}
    chosen: dict[str, tuple[Run, Path]] = {}
    for run in inputs.runs_in_order(inputs.translated):
        chosen.setdefault(run.system, (run, inputs.translated[run]))
    sampled_ids = pa.array(ids, pa.int64())
    outputs: dict[int, dict[str, str]] = {}
    for system, (run, path) in chosen.items():
        inputs.sampled[system] = run
        data = best_outputs(path, inputs.samples_of)
        for row in data.filter(pc.is_in(data["id"], sampled_ids)).to_pylist():
            outputs.setdefault(row["id"], {})[system] = row["text"]
    corpus = corpus.filter(pc.is_in(corpus["id"], sampled_ids))
    rows = zip(corpus["id"].to_pylist(), corpus["source"].to_pylist(), references_of(corpus), strict=True)
    inputs.samples = [
        Sample(id=i, source=source, references=references, outputs=outputs.get(i, {})) for i, source, references in rows
    ]


def _rows(inputs: Inputs, path: Path, table: Table) -> list[Row]:
    rows = read_table(path, table).to_pylist()
    inputs.sources.append(Source(path=str(path), table=table.name, rows=len(rows), provenance=read_provenance(path)))
    return rows


def _checkpoint(path: Path) -> Checkpoint:
    description = _json(path)
    try:
        return Checkpoint.model_validate({**description, "description": description, "directory": str(path.parent)})
    except ValidationError as error:
        raise RetortError(f"{path}: not the description of a checkpoint: {error}") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise RetortError(f"{path}: not valid JSON ({error}); run the stage that writes it again") from None
    if not isinstance(value, dict):
        raise RetortError(f"{path}: holds a JSON {type(value).__name__}, expected an object")
    return value


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise RetortError(f"{path}: cannot be read ({error}); run the stage that writes it") from None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
