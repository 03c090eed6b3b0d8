# The configuration, and what rules share: paths, what runs, input functions.

import fcntl
import json
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod
from snakemake_interface_executor_plugins.settings import ExecMode

# The package of this checkout, whatever else is installed, for the workflow here and for the scripts of every job.
ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))

from retort.config import PRETRAINED, em_iteration, em_student, em_teacher, metric_named
from retort.config.files import merged, read_yaml
from retort.config.files import check_files, local_monolingual_texts, local_texts
from retort.config.load import load_config, to_json
from retort.errors import RetortError
from retort.models.families import family_module
from retort.evaluation.runs import counterparts, data_pairs
from retort.data.provenance import value_digest
from retort.workflow.call import Call
from retort.workflow.code import CodeRecords


def read_configuration():
    """The resolved configuration: the files given with --configfile, or else config.yaml; then --config on top.

    There is no configfile statement, because Snakemake would merge that file with the given ones, and the default's
    students would leak into every run.
    """
    given = workflow.config_settings.configfiles
    where = ", ".join(os.path.relpath(path) for path in given)
    raw = {}
    if not given:
        default = Path("config.yaml") if Path("config.yaml").is_file() else ROOT / "config.yaml"
        raw, where = read_yaml(default), str(default)
    for path in given:
        raw = merged(raw, read_yaml(path))
    raw = merged(raw, workflow.config_settings.config or {})
    resolved = load_config(raw, where)
    check_files(resolved)
    return resolved


try:
    run_config = read_configuration()
except RetortError as error:
    raise WorkflowError(str(error))

R = f"results/{run_config.name}"
# Which code made what: retort/workflow/why.py.
code_records = CodeRecords(Path(R) / "code", ROOT)
TEACHER_SEED = run_config.seeds_of("teacher")[0]
# Systems whose targets another system chooses.
SELECTIVE = [name for name, s in run_config.systems.items() if s.mixture and s.mixture.kind == "selective"]
TESTS = expand(f"{R}/corpus/test.{{test}}.parquet", test=run_config.corpus.test_names)

# Jobs use this Python, unless each rule's conda environment brings its own.
if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method:
    python_path = ""
else:
    python_path = f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH; "
package_path = f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}; "
# Jobs end themselves when this process is killed: retort/workflow/watchdog.py.
parent = "export RETORT_WORKFLOW_PID=$PPID; "
shell.prefix(f"set -euo pipefail; {python_path}{package_path}{parent}".replace("{", "{{").replace("}", "}}"))


def hold_run():
    """Take the lock of this run, or stop.

    The system releases it when this process ends, however it ends. Snakemake's own lock outlives a killed process and
    would refuse the next call, so the default profile turns it off.
    """
    Path(".snakemake").mkdir(exist_ok=True)
    handle = open(f".snakemake/{run_config.name}.run-lock", "a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WorkflowError(
            f"another snakemake works on results/{run_config.name}; wait for it, or choose another name"
        )
    held_locks.append(handle)


held_locks = []


# ---- what runs ------------------------------------------------------------------------------------------------------


def runs(systems=run_config.systems):
    """Every system (of the named ones) with every seed it is trained with; of the EM loop, as far as it went."""
    return [
        (system, seed)
        for system in systems
        for seed in run_config.seeds_of(system)
        if em_iteration(system) < 2 or loop_reaches(em_iteration(system), seed)
    ]


def run_of(system, seed):
    """A system with a seed, or with its first one where it is not trained with that."""
    seeds = run_config.seeds_of(system)
    return system, seed if seed in seeds else seeds[0]


def decodings(systems=run_config.systems):
    """Every system (of the named ones) with every seed and every search it is decoded with."""
    return [(system, seed, search) for system, seed in runs(systems) for search in run_config.systems[system].searches]


def first_search(system):
    """Name of the search that stands for a system in comparisons."""
    return next(iter(run_config.trained[system].searches))


def translation(system, seed, search):
    return f"{R}/translations/{system}/seed{seed}/{search}.parquet"


def all_translations(wildcards):
    return [translation(*decoding) for decoding in decodings()]


def scores_of(systems):
    return [f"{R}/scores/{system}/seed{seed}/{search}.parquet" for system, seed, search in decodings(systems)]


def all_scores(wildcards):
    return scores_of(run_config.systems)


def training_logs(wildcards):
    """Logs of the systems trained here; a given checkpoint has none."""
    return [f"{R}/systems/{s}/seed{k}/training.parquet" for s, k in runs() if not run_config.systems[s].checkpoint]


# ---- checkpoints and vocabularies, trained here or given by a path --------------------------------------------------


def checkpoint_directory(system, seed):
    given = run_config.trained[system].checkpoint
    return os.path.normpath(given) if given else f"{R}/systems/{system}/seed{seed}"


def checkpoint_files(system, seed):
    directory = checkpoint_directory(system, seed)
    return {
        "weights": f"{directory}/model.safetensors",
        "model": f"{directory}/model.json",
        "source_vocabulary": f"{directory}/source.model",
        "target_vocabulary": f"{directory}/target.model",
    }


def checkpoint_of_run(wildcards):
    """Input: the checkpoint of the system and seed in the wildcards."""
    return checkpoint_files(wildcards.system, int(wildcards.seed))


def checkpoint_of_teacher(wildcards):
    """Input: the checkpoint that distils."""
    return checkpoint_files("teacher", TEACHER_SEED)


def checkpoints_of(systems):
    """The files of all checkpoints of the named systems."""
    found = [checkpoint_files(s, k).values() for s, k in runs(systems)]
    return list(dict.fromkeys(path for files in found for path in files))


def all_checkpoints(wildcards):
    return checkpoints_of(run_config.systems)


def timed_checkpoints(wildcards):
    """Input: the checkpoint of the first seed of every system; more seeds of one shape say nothing new on time."""
    found = [checkpoint_files(s, k).values() for s, k in runs() if k == run_config.seeds_of(s)[0]]
    return list(dict.fromkeys(path for files in found for path in files))


def teacher_files():
    return {f"teacher_{kind}": path for kind, path in checkpoint_files("teacher", TEACHER_SEED).items()}


def vocabulary_files():
    """The run's vocabulary: the given directory's, or the trained one's."""
    directory = os.path.normpath(run_config.vocabulary.path or f"{R}/vocabulary")
    return {
        "source_vocabulary": f"{directory}/source.model",
        "target_vocabulary": f"{directory}/target.model",
        "vocabulary": f"{directory}/vocabulary.json",
    }


# What any system can be trained on; those of the EM loop and pre-training have tables of their own.
TRAINING_TABLES = {
    "raw": f"{R}/encoded/train.parquet",
    "distilled": f"{R}/distilled/encoded.parquet",
    "interpolated": f"{R}/interpolated/encoded.parquet",
}


def training_files(wildcards):
    """Input: what a system is trained on; the checkpoint that it starts from too."""
    name, seed = wildcards.system, int(wildcards.seed)
    train = {
        **TRAINING_TABLES,
        "mixed": f"{R}/mixed/train.parquet",
        "em": f"{iteration_directory(em_iteration(name), seed)}/train.parquet",
        "selected": f"{iteration_directory(em_iteration(name), seed)}/selected.parquet",
        "monolingual": f"{R}/pretraining/train.parquet",
    }[run_config.trained[name].data]
    valid = f"{R}/pretraining/valid.parquet" if name == PRETRAINED else f"{R}/encoded/valid.parquet"
    files = {"train": train, "valid": valid, **vocabulary_files()}
    if start := starting_run(name, seed):
        files["start"] = checkpoint_files(*start)["weights"]
        files["start_model"] = checkpoint_files(*start)["model"]
    if asks_teacher(name):
        files |= teacher_files()
    if evaluator := evaluating_run(name, seed):
        files["agreement"] = f"{R}/agreement/{evaluator[0]}/seed{evaluator[1]}.parquet"
    if labels := stored_labels(name):
        files["labels"] = labels
    return files


def evaluating_run(system, seed):
    """System and seed of the model that chooses among the targets of a system, if one does."""
    if system not in SELECTIVE:
        return None
    return run_of(run_config.systems[system].mixture.evaluator, seed)


def asks_teacher(system):
    """Whether the teacher labels the training of a system."""
    return run_config.trained[system].objective.needs_teacher


def stored_labels(system):
    """The table of the teacher's labels that a system is trained with, if it reads one."""
    data, objective = run_config.trained[system].data, run_config.trained[system].objective
    return f"{R}/labels/{data}/top{objective.top_k}.parquet" if objective.needs_labels else None


def starting_run(system, seed):
    """System and seed of the checkpoint that a training starts from, if it starts from one."""
    kind, iteration = run_config.trained[system].training.warm_start, em_iteration(system)
    if kind == "none":
        return None
    if kind == PRETRAINED:
        return PRETRAINED, run_config.seeds_of(PRETRAINED)[0]
    if kind == "teacher_encoder":
        return "teacher", TEACHER_SEED
    if kind != "previous":
        return run_of(kind, seed)
    return teacher_of(iteration - 1, seed) if system == em_teacher(iteration) else (em_student(iteration - 1), seed)


def labelled_files(wildcards):
    """Input: training text, and the teacher that says what comes next in it."""
    return {
        **teacher_files(),
        **vocabulary_files(),
        "train": TRAINING_TABLES[wildcards.data],
    }


def labelled_text(wildcards):
    """Input: training text that labels are for."""
    return TRAINING_TABLES[wildcards.data]


def distilled_translations(wildcards):
    """Input: the teacher's translations of the training sources, in shards, or the given table."""
    given = run_config.distillation.corpus
    return given or gather.distill(f"{R}/distilled/shards/{{scatteritem}}.parquet")


def corpus_texts(wildcards):
    """Input: local text files; texts that are downloaded are none."""
    return local_texts(run_config)


def monolingual_texts(wildcards):
    """Input: what to pre-train on: local text files, or the training corpus."""
    given = run_config.pretraining and run_config.pretraining.texts
    return local_monolingual_texts(run_config) if given else [f"{R}/corpus/train.parquet"]


def teacher_weights(wildcards):
    """Input: the checkpoint of the teacher, its weights first."""
    return list(checkpoint_files("teacher", TEACHER_SEED).values())


def all_lengths(wildcards):
    """Input: scores by length, if they are asked for."""
    return [f"{R}/scores/lengths.parquet"] if run_config.evaluation.length_buckets else []


def all_exposure(wildcards):
    """Input: exposure bias of the systems that it is asked of."""
    return [
        f"{R}/exposure/{system}/seed{seed}.parquet" for system, seed in runs(run_config.evaluation.exposure.systems)
    ]


def multimodality_files(wildcards):
    """Input: a parallel model, and pairs of its training text that it has not seen."""
    system, seed = wildcards.system, int(wildcards.seed)
    pairs = {
        "em": f"{iteration_directory(em_iteration(system), seed)}/held_out.parquet",
        "raw": f"{R}/encoded/valid.parquet",
    }[run_config.systems[system].data]
    return {**checkpoint_files(system, seed), "held_out": pairs}


def multimodality_of(systems):
    """Measures of the text that parallel systems (of the named ones) are trained on, where there are unseen pairs."""
    return [
        f"{R}/multimodality/{system}/seed{seed}.parquet"
        for system, seed in runs(systems)
        if run_config.systems[system].data in ("raw", "em") and not run_config.systems[system].objective.left_to_right
    ]


def all_multimodality(wildcards):
    return multimodality_of(run_config.systems)


SYSTEM = r"[A-Za-z0-9][A-Za-z0-9._-]*"


def names_as_pattern(*names):
    """A regular expression of these names alone."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    system=SYSTEM,
    seed=r"\d+",
    search=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    iteration=r"\d+",
    data="|".join(TRAINING_TABLES),
    top_k=r"\d+",
