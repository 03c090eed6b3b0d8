"""Why a result of a run would be made again, or that it would not.

Snakemake plans the run that would make the result, and says which jobs run. Their parameters today are compared with
those in its records, by file of code and by key of the configuration.
"""

from __future__ import annotations

import ast
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from retort.config.load import to_json
from retort.errors import RetortError
from retort.workflow.call import Call
from retort.workflow.code import CodeRecords, package_root
from retort.workflow.differences import Change, Now, Then, changes

RESULTS = "results"

_NO_RULE = "{}: no rule makes this file with the run's configuration; name an output of a rule"


@dataclass(frozen=True)
class Job:
    """A job that would run: a rule, one of its results, why by itself, and which of its inputs are made again first."""

    rule: str
    result: str
    changes: list[Change]
    inputs: list[str]


@dataclass(frozen=True)
class Answer:
    """``job`` is None for a result that would not be made again; ``causes`` are the jobs that begin it all."""

    result: str
    job: Job | None = None
    causes: list[Job] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Some lines to read."""
        lines = [f"{self.result}: up to date"]
        if self.job is not None:
            lines = [f"{self.result}: {self.job.rule} would run again"]
            lines += [f"  {change.text}" for change in self.job.changes]
            if self.job.inputs:
                lines.append(f"  inputs are made again: {_listed(self.job.inputs)}")
        if self.causes:
            lines.append("what changed for its inputs, and what that makes again:")
            affected: dict[str, list[str]] = {}
            # a job with few changes says most about each of them
            for cause in sorted(self.causes, key=lambda job: len(job.changes)):
                for change in cause.changes:
                    affected.setdefault(change.text, []).append(cause.result)
            lines += [f"  {text}: {_listed(results, 1)}" for text, results in affected.items()]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def json(self) -> str:
        """The same for programs."""
        return json.dumps({"again": self.job is not None, **asdict(self)}, indent=2, ensure_ascii=False)


def why(result: Path | str, configfiles: list[str] | None = None) -> Answer:
    """Whether a file below results/<run>/ would be made again, and what changed since it was made.

    ``configfiles`` are those that the run would be started with; default: those it was started with. Raises
    RetortError for a file that no rule makes, and where the workflow cannot be planned.
    """
    directory, run, name = place(Path(result))
    call, notes = Call.read(directory / RESULTS / run), []
    if call is None:
        config = directory / RESULTS / run / "config.json"
        call = Call(configfiles=[str(config)] if config.is_file() else [])
        notes.append("it is not known what this run was started with; name its configuration with --configfile")
    if configfiles:
        call = Call([os.path.abspath(path) for path in configfiles], {}, scatter=call.scatter, software=call.software)
    with _planned(directory, name, call) as workflow:
        return _answer(workflow, name, notes)


def place(result: Path) -> tuple[Path, str, str]:
    """Working directory, name of the run, and the result's path from the working directory."""
    path = Path(os.path.abspath(result))
    parts = path.parts
    if RESULTS not in parts[:-2]:
        raise RetortError(f"{result}: not a result; expected a file below {RESULTS}/<run>/")
    at = len(parts[:-2]) - 1 - parts[:-2][::-1].index(RESULTS)
    return Path(*parts[:at]), parts[at + 1], "/".join(parts[at:])


@contextmanager
def _planned(directory: Path, target: str, call: Call) -> Iterator[Any]:
    """Snakemake's workflow with the jobs that a run for this target would have, in its working directory."""
    from snakemake.api import SnakemakeApi
    from snakemake.exceptions import MissingRuleException, RuleException, WorkflowError
    from snakemake.settings import types

    snakefile = package_root() / "Snakefile"
    if not snakefile.is_file():
        raise RetortError(f"{snakefile}: no such file; ask in a checkout of Retort, with its package")
    # set afterwards, so that only the Snakefile reads the files
    settings = types.ConfigSettings(config=call.config)
    settings.configfiles = [directory / path for path in call.configfiles]
    output = types.OutputSettings(dryrun=True, log_level_override=logging.CRITICAL + 1)
    with SnakemakeApi(output) as snakemake:
        try:
            api = snakemake.workflow(
                resource_settings=types.ResourceSettings(cores=1, overwrite_scatter=call.scatter),
                config_settings=settings,
                deployment_settings=types.DeploymentSettings(
                    deployment_method={types.DeploymentMethod[name] for name in call.software}
                ),
                snakefile=snakefile,
                workdir=directory,
            )
            api.dag(types.DAGSettings(targets={target}, force_incomplete=True)).execute_workflow(
                executor="dryrun", execution_settings=types.ExecutionSettings(lock=False)
            )
        except MissingRuleException:
            raise RetortError(_NO_RULE.format(target)) from None
        except (WorkflowError, RuleException, OSError) as error:
            raise RetortError(f"{target}: its run cannot be planned: {str(error).strip()}") from None
        except SystemExit as end:
            # of a configuration with a fault
            raise RetortError(f"{target}: its run cannot be planned: {end.__cause__}") from None
        # the jobs and their records have no public way to them; the pin of Snakemake holds this still
        yield api._workflow


# ---- from the plan to an answer -------------------------------------------------------------------------------------


def _answer(workflow: Any, name: str, notes: list[str]) -> Answer:
    dag = workflow.dag
    target = next((job for job in dag.jobs if name in map(str, job.output)), None)
    if target is None:
        raise RetortError(_NO_RULE.format(name))
    if not workflow.persistence.has_metadata(target) and Path(name).exists():
        notes = [*notes, f"nothing is recorded of how {name} was made; changed code and parameters cannot be seen"]
    if not dag.needrun(target):
        return Answer(name, notes=notes)
    config = json.loads(to_json(workflow.globals["run_config"]))
    comparison = _Comparison(workflow, config, workflow.globals["code_records"])
    earlier = [comparison.job(job) for job in _before(dag, target)]
    return Answer(name, comparison.job(target, name), causes=[job for job in earlier if job.changes], notes=notes)


def _before(dag: Any, target: Any) -> list[Any]:
    """The jobs that would run before the target's and lead to it, in the order in which they would."""
    jobs: dict[Any, None] = {}
    waiting = [target]
    while waiting:
        for job in dag.dependencies[waiting.pop()]:
            if dag.needrun(job) and job not in jobs:
                jobs[job] = None
                waiting.append(job)
    return [job for level in dag.toposorted() for job in level if job in jobs]


class _Comparison:
    """Compares jobs of a planned workflow with their records."""

    def __init__(self, workflow: Any, config: dict[str, Any], records: CodeRecords) -> None:
        self.dag, self.persistence, self.records, self.config = workflow.dag, workflow.persistence, records, config
        self.last_config = _last_config(records.directory.parent)

    def job(self, job: Any, result: str | None = None) -> Job:
        again = {
            str(f) for other, files in self.dag.dependencies[job].items() if self.dag.needrun(other) for f in files
        }
        parameters = self._parameters(job)
        told = {change.name for change in parameters if change.kind == "input"}
        changes = [change for change in self._files(job) if change.kind != "input" or change.name not in told]
        changes += parameters
        return Job(job.rule.name, result or str(job.output[0]), changes=changes, inputs=sorted(again))

    def _files(self, job: Any) -> Iterator[Change]:
        reason = self.dag.reason(job)
        for file in sorted(map(str, reason.missing_output)):
            yield Change("output", file, f"{file} does not exist")
        for file in sorted(map(str, reason.incomplete_output)):
            yield Change("output", file, f"{file} is not complete: its job was killed, or one before it failed")
        for file in sorted({*map(str, reason.updated_input)} - {*map(str, reason.updated_input_run)}):
            yield Change("input", file, f"{file} changed; ask why of it, if a rule makes it")
        if any(self.persistence.code_changed(job)):
            yield Change("command", job.rule.name, f"the command of rule {job.rule.name} changed")
        if any(self.persistence.software_stack_changed(job)):
            yield Change("software", job.rule.name, f"the software of rule {job.rule.name} changed")
        if any(self.persistence.input_changed(job)):
            recorded, today = {*(self.persistence.input(job.output[0]) or ())}, {*map(str, job.input)}
            for file in sorted(today - recorded):
                yield Change("input", file, f"{file} is an input now")
            for file in sorted(recorded - today):
                yield Change("input", file, f"{file} is no longer an input")

    def _parameters(self, job: Any) -> list[Change]:
        change = self.persistence.params_changed(job)
        parameters = {name: value for name, value in job.params.items() if repr(value) in change.only_new}
        then = Then([_value(text) for text in sorted(change.only_old)], self.last_config)
        return changes(then, Now(parameters, self.config, tuple(job.wildcards_dict.values())), self.records)


def _value(text: str) -> Any:
    """The value of a parameter that Snakemake keeps as text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _last_config(run: Path) -> dict[str, Any]:
    """The configuration of the last run, as far as it is kept."""
    try:
        return dict(json.loads((run / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _listed(files: list[str], shown: int = 3) -> str:
    more = f" and {len(files) - shown} more" if len(files) > shown else ""
    return f"{', '.join(files[:shown])}{more}"
