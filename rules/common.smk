# The configuration, the plan of the run made from it, and what inputs and parameters of rules are made with.

import os
import re
import shlex
import sys
import time
from base64 import urlsafe_b64encode
from contextlib import contextmanager
from functools import cache, partial
from itertools import chain
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod
from snakemake_interface_executor_plugins.settings import ExecMode

# The package of this checkout, whatever else is installed, for the workflow here and for the scripts of every job.
ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))

from retort.config import EXTERNAL, PRETRAINED, em_student
from retort.config.base import NAME_PATTERN
from retort.config.em import CHOOSING
from retort.config.load import load_files, to_json
from retort.data.files import check_writable, read_text
from retort.data.parquet import read_table
from retort.data.provenance import value_digest
from retort.data.runs import Run
from retort.data.tables import GUARDS
from retort.distillation.guards import verdicts
from retort.errors import RetortError
from retort.filenames import CLEANING_TABLE, CORPUS_DESCRIPTION
from retort.teachers.base import secret_of
from retort.workflow.call import Call, keys_given
from retort.workflow.code import CodeRecords
from retort.workflow.contents import Contents, given_files
from retort.workflow.lock import RunLock, check_place, lock_of, stop_file_of
from retort.workflow.modules import Modules
from retort.workflow.options import Options
from retort.workflow.plan import Plan
from retort.workflow.progress import Job, Progress
from retort.workflow.states import abandoned, forget_recorded
from retort.workflow.watchdog import STOP_VARIABLE, VARIABLE, stop_jobs_on_signals
from retort.workflow.wiring import of_job


@contextmanager
def workflow_errors():
    """Errors of the package as errors of the workflow, which end it with their text alone."""
    try:
        yield
    except RetortError as error:
        raise WorkflowError(str(error))


@contextmanager
def last_errors():
    """Errors of the package end Snakemake with their text alone: as errors of the workflow they would come with the
    lines of its files that they came through."""
    try:
        yield
    except RetortError as error:
        logger.error(f"error: {error}")
        raise SystemExit(2) from error


# ---- the configuration and the plan ---------------------------------------------------------------------------------


def read_configuration():
    """The resolved configuration: the files given with --configfile, or else config.yaml; then --config on top.

    There is no configfile statement, because Snakemake would merge that file with the given ones, and the default's
    students would leak into every run.
    """
    default = Path("config.yaml") if Path("config.yaml").is_file() else ROOT / "config.yaml"
    given = workflow.config_settings.configfiles or [default]
    return load_files(given, keys_given(workflow.config_settings))


def guard_verdicts(iteration):
    """Why the EM loop ends before an iteration, by seed. Until that is known, Snakemake plans what is needed for it."""
    force_unfinished_outputs()
    guards = checkpoints.gather_guards.get(iteration=iteration).output.guards
    with last_errors():
        reasons = verdicts(read_table(guards, GUARDS))
    for reason in reasons.values():
        warn_of_end(reason)
    return reasons


@cache
def force_unfinished_outputs():
    """Have outputs made again that were being written when an earlier call was killed. Snakemake does so for the jobs
    that it knows at first, and this for those behind a checkpoint."""
    files = [str(path) for path in Path(R).rglob("*") if path.is_file()]
    workflow.dag.forcefiles.update(workflow.persistence._filter_incomplete_keys(files))


def mark_outdated():
    """Have results that wait for a failed job made again by the next call. To Snakemake they would be up to date: the
    job's earlier output is gone, and the record of what has changed since with it."""
    failed = chain.from_iterable(job.jobs if job.is_group() else [job] for job in workflow.scheduler.failed)
    waiting, marked = [*failed], set()
    while waiting:
        following = set(workflow.dag.depending[waiting.pop()]) - marked
        for job in following:
            workflow.persistence.started(job)
        marked |= following
        waiting += following


def is_recorded(output):
    """Whether Snakemake has recorded what this output was made from."""
    persistence = workflow.persistence
    return bool(persistence._read_record(output)) and not persistence._filter_incomplete_keys([output])


def warn_of_missing_records():
    """Say so where results are there and Snakemake's records of how they were made are not. A call with nothing to do
    ends before Snakemake looks for them."""
    made = f"{R}/corpus/{CORPUS_DESCRIPTION}"
    record = Path(".snakemake", "metadata", urlsafe_b64encode(made.encode()).decode())
    recorded = record.exists() or Path(".snakemake", "metadata.db").exists()
    if workflow.exec_mode == ExecMode.DEFAULT and Path(made).exists() and not recorded:
        logger.warning(
            f"{R}: nothing is recorded here of how it was made, as where .snakemake was not moved with results: "
            "changed keys and code cannot be seen, only newer files"
        )


def jobs_to_do():
    """The jobs of this call; with --until, those that lead to its targets."""
    leading = set(workflow.dag.bfs(workflow.dag.dependencies, *workflow.dag.targetjobs))
    return [job for job in workflow.dag.needrun_jobs() if job in leading]


def warn_of_old_config():
    """Say where the report will be of an earlier configuration, which --rerun-triggers mtime and --touch keep."""
    made = {job.rule.name for job in jobs_to_do()}
    written = Path(R, "config.json")
    if "build_report" in made and "write_config" not in made and read_text(written) != f"{to_json(run_config)}\n":
        logger.warning(
            f"{written} is of an earlier configuration, and so will be the report; --forcerun write_config writes it again"
        )


@cache
def warn_of_end(reason):
    """Say once why the EM loop ends."""
    if reason:
        logger.warning(f"{reason}. The report names the iteration kept; em.guards holds the bounds.")


def check_secret():
    """Refuse a call whose jobs ask the external teacher, before the first of them, where the environment lacks its key;
    on a cluster jobs have the same environment. Kept answers may be all that is needed, so with some the jobs decide.
    """
    asks = {"ask_teacher", "ask_held_out", "translate_external"}
    if external and not Path(R, "answers").exists() and asks & {job.rule.name for job in jobs_to_do()}:
        secret_of(external)


with last_errors():
    run_config = read_configuration()
    R = f"results/{run_config.name}"
    # where Snakemake itself ends with a traceback
    for place in (".snakemake", R):
        check_writable(Path(place))
    check_place(ROOT)
warn_of_missing_records()
run_lock = RunLock(lock_of(run_config.name, Path()), R)
# Which code made what: retort/workflow/why.py.
code_records = CodeRecords(Path(R) / "code", ROOT, parsed=Path(".snakemake") / "parsed-code.json")
given_contents = Contents(Path(".snakemake") / "contents.json")
plan = Plan(run_config, R, guard_verdicts)
layout, options, modules = plan.layout, Options(plan), Modules(plan)
TESTS = layout.tests()
external = run_config.external_teacher
teacher_environment = f"../envs/{external.environment if external else 'retort'}.yaml"


# ---- the shell of every job -----------------------------------------------------------------------------------------

# Jobs use this Python, unless each rule's conda environment brings its own.
if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method:
    python_path = ""
else:
    python_path = f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH; "
package_path = f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}; "
# Jobs end themselves when this process is killed, or asks them to stop: retort/workflow/watchdog.py.
STOP_FILE = stop_file_of(run_config.name, Path().resolve())
parent = f"export {VARIABLE}=$PPID; export {STOP_VARIABLE}={shlex.quote(str(STOP_FILE))}; "
shell.prefix(f"set -euo pipefail; {python_path}{package_path}{parent}".replace("{", "{{").replace("}", "}}"))


# ---- makers of parameters -------------------------------------------------------------------------------------------


def script(name):
    """Parameter: path of a rule's script. Snakemake does not track parameters that take the output as an argument: where
    the checkout and the results are re-runs nothing."""
    return lambda wildcards, output: os.path.relpath(ROOT / "workflow_scripts" / f"{name}.py")


def code(name, imported=None):
    """Parameter: digest of all code that a script can run, so that an edit runs again what uses it. ``imported`` is the
    method of ``modules`` for what it imports by name."""
    named = of_job(imported) if imported else lambda wildcards: ()

    def get(wildcards):
        with workflow_errors():
            return code_records.digest(ROOT / "workflow_scripts" / f"{name}.py", sorted(named(wildcards)))

    return get


def text_digest(*patterns):
    """Parameter: digest of files that are not the code of a script."""
    return lambda wildcards: value_digest([path.read_text() for p in patterns for path in sorted(ROOT.glob(p))])


def contents_of(*files):
    """Parameter: digests of those of these files that no rule makes; ``files`` are methods of ``plan`` and ``layout``
    for the rule's inputs."""
    named = [of_job(method) for method in files]

    def get(wildcards):
        with workflow_errors():
            return given_contents.digests(given_files((method(wildcards) for method in named), R))

    return get


def section(path, *keys, without=()):
    """Parameter: a section of the configuration as JSON; only the named keys, if any are named."""
    return lambda wildcards: options.section(path, *keys, without=without)


def directory_of(path):
    """Parameter: the directory of the named input or output file, as in "input.weights"."""
    kind, name = path.split(".")

    def get(wildcards, input, output):
        files = {"input": input, "output": output}[kind][name]
        return os.path.dirname(files if isinstance(files, str) else files[0])

    return get


# ---- wildcards ------------------------------------------------------------------------------------------------------

# What stands for any decoding or training in the paths of a rule.
DECODING, TRAINING = Run("{system}", "{seed}", "{search}"), Run("{system}", "{seed}")


def names_as_pattern(*names):
    """A regular expression of these names alone."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    system=NAME_PATTERN,
    seed=r"\d+",
    search=NAME_PATTERN,
    iteration=r"\d+",
    data="|".join(layout.texts()),
    top_k=r"\d+",
    table=names_as_pattern(*plan.ngrams.counted()),
