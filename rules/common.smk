# The configuration, and every function that rules share: paths, input functions, parameters.

import fcntl
import json
import os
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod
from snakemake.utils import update_config

# The package of this checkout, whatever else is installed, for the workflow here and for the scripts of every job.
ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))

from retort.config import em_iteration, em_student, em_teacher
from retort.configuration import check_files, load_config, local_texts, read_yaml, to_json
from retort.errors import RetortError
from retort.evaluation.runs import data_pairs
from retort.provenance import code_digest, value_digest


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
        update_config(raw, read_yaml(path))
    update_config(raw, workflow.config_settings.config or {})
    resolved = load_config(raw, where)
    check_files(resolved)
    return resolved


try:
    run_config = read_configuration()
except RetortError as error:
    raise WorkflowError(str(error))

R = f"results/{run_config.name}"
TEACHER_SEED = run_config.seeds_of("teacher")[0]
TESTS = expand(f"{R}/corpus/test.{{test}}.parquet", test=getattr(run_config.corpus, "tests", None) or ["test"])

# Jobs use this Python, unless each rule's conda environment brings its own.
if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method:
    python_path = ""
else:
    python_path = f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH; "
package_path = f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}; "
# Jobs end themselves when this process is killed: retort/orphans.py.
parent = "export RETORT_WORKFLOW_PID=$PPID; "
shell.prefix(f"set -euo pipefail; {python_path}{package_path}{parent}".replace("{", "{{").replace("}", "}}"))


def hold_run():
    """Take the lock of this run, or stop.

    The system releases it when this process ends, however it ends. Snakemake's own lock outlives a killed process and
    would refuse the next call, so the default profile turns it off.
    """
    Path(".snakemake").mkdir(exist_ok=True)
    handle = open(f".snakemake/{run_config.name}.run-lock", "w")
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


def decodings(systems=run_config.systems):
    """Every system (of the named ones) with every seed and every search it is decoded with."""
    return [(system, seed, search) for system, seed in runs(systems) for search in run_config.systems[system].searches]


def first_search(system):
    """Name of the search that stands for a system in comparisons."""
    return next(iter(run_config.systems[system].searches))


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
    given = run_config.systems[system].checkpoint
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


def vocabulary_files():
    """The run's vocabulary: the given directory's, or the trained one's."""
    directory = os.path.normpath(run_config.vocabulary.path or f"{R}/vocabulary")
    return {
        "source_vocabulary": f"{directory}/source.model",
        "target_vocabulary": f"{directory}/target.model",
        "vocabulary": f"{directory}/vocabulary.json",
    }


def training_files(wildcards):
    """Input: what a system is trained on; the checkpoint that it starts from too."""
    name, seed = wildcards.system, int(wildcards.seed)
    train = {
        "raw": f"{R}/encoded/train.parquet",
        "distilled": f"{R}/distilled/encoded.parquet",
        "em": f"{iteration_directory(em_iteration(name), seed)}/train.parquet",
        "selected": f"{iteration_directory(em_iteration(name), seed)}/selected.parquet",
    }[run_config.systems[name].data]
    files = {"train": train, "valid": f"{R}/encoded/valid.parquet", **vocabulary_files()}
    if start := starting_run(name, seed):
        files["start"] = checkpoint_files(*start)["weights"]
        files["start_model"] = checkpoint_files(*start)["model"]
    return files


def starting_run(system, seed):
    """System and seed of the checkpoint that a training starts from, if it starts from one."""
    kind, iteration = run_config.systems[system].training.warm_start, em_iteration(system)
    if kind == "none":
        return None
    if kind == "teacher_encoder":
        return "teacher", TEACHER_SEED
    return teacher_of(iteration - 1, seed) if system == em_teacher(iteration) else (em_student(iteration - 1), seed)


def distilled_translations(wildcards):
    """Input: the teacher's translations of the training sources, in shards, or the given table."""
    given = run_config.distillation.corpus
    return given or gather.distill(f"{R}/distilled/shards/{{scatteritem}}.parquet")


def corpus_texts(wildcards):
    """Input: local text files; texts that are downloaded are none."""
    return local_texts(run_config)


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
        if run_config.systems[system].data in ("raw", "em")
        and run_config.systems[system].objective.name != "autoregressive"
    ]


def all_multimodality(wildcards):
    return multimodality_of(run_config.systems)


# ---- parameters: only what a rule needs, so that nothing else re-runs it --------------------------------------------


def as_json(value):
    return json.dumps(value, ensure_ascii=False)


def section(name, *keys):
    """Parameter: a section of the configuration as JSON; only the named keys, if any are named."""

    def get(wildcards):
        value = getattr(run_config, name).model_dump(mode="json", exclude_none=True)
        return as_json({key: value[key] for key in keys or value if key in value})

    return get


def corpus_section(wildcards):
    return as_json(run_config.corpus.model_dump(mode="json", exclude_none=True, exclude={"mirror"}))


def language_option(wildcards):
    """Parameter: --language SECTION where the right translations are known, nothing elsewhere."""
    return ["--language", corpus_section(wildcards)] if run_config.corpus.kind == "generated" else []


def mirror_option(wildcards, output):
    """Parameter: --mirror DIRECTORY. A mirror holds the same texts, so another one must not re-run anything: Snakemake
    does not track a parameter that takes the output as an argument."""
    mirror = getattr(run_config.corpus, "mirror", None)
    return ["--mirror", mirror] if mirror else []


def decoding_batch_tokens(wildcards):
    return run_config.evaluation.batch_tokens


def vocabulary_section(wildcards):
    return as_json(run_config.vocabulary.model_dump(mode="json", exclude={"path"}))


def distillation_section(wildcards):
    return as_json(run_config.distillation.model_dump(mode="json", exclude={"corpus"}))


def system_section(wildcards):
    """Parameter: what the training depends on. Of the searches only the first one, which validates, and no name."""
    system = run_config.systems[wildcards.system]
    value = system.model_dump(mode="json", exclude={"seeds", "checkpoint", "searches"})
    return as_json({**value, "searches": {"validation": search_of(wildcards.system, first_search(wildcards.system))}})


def search_of(system, search):
    return run_config.systems[system].searches[search].model_dump(mode="json")


def rescores(system, search):
    """Whether a search of a system asks the teacher."""
    found = search_of(system, search)
    return bool(found.get("rescore")) and found["candidates"] > 1


def search_section(wildcards):
    return as_json(search_of(wildcards.system, wildcards.search))


def timed_systems(wildcards):
    """Parameter: the systems to time, each with its first seed and all its searches."""
    return as_json(
        [
            {
                "system": system,
                "seed": seed,
                "checkpoint": checkpoint_directory(system, seed),
                "search_name": search,
                "search": search_of(system, search),
                "teacher": checkpoint_directory("teacher", TEACHER_SEED) if rescores(system, search) else None,
            }
            for system, seed, search in decodings()
            if seed == run_config.seeds_of(system)[0]
        ]
    )


def data_of(wildcards):
    return run_config.systems[wildcards.system].data


def start_option(wildcards):
    """Parameter: --start DIRECTORY for a training that starts from a checkpoint, nothing for the others."""
    start = starting_run(wildcards.system, int(wildcards.seed))
    return ["--start", checkpoint_directory(*start)] if start else []


def rescoring_files(wildcards):
    """Input: the checkpoint of the teacher where the search in the wildcards rescores with it."""
    needed = rescores(wildcards.system, wildcards.search)
    return checkpoint_files("teacher", TEACHER_SEED).values() if needed else []


def rescoring_option(wildcards):
    """Parameter: --teacher DIRECTORY for a search that rescores, nothing for the others."""
    needed = rescores(wildcards.system, wildcards.search)
    return ["--teacher", checkpoint_directory("teacher", TEACHER_SEED)] if needed else []


def baseline_translation(wildcards):
    """Input: the translations every other system is compared with."""
    baseline = run_config.evaluation.baseline or "teacher"
    return translation(baseline, run_config.seeds_of(baseline)[0], first_search(baseline))


def pair_options(wildcards):
    """Parameter: --pair SYSTEM BASELINE, seed by seed, for systems that differ in their training data only, and for the
    iterations of the EM loop, each search against the same one of the first iteration."""
    systems = {name: system.model_dump(mode="json") for name, system in run_config.systems.items()}
    pairs = [(distilled, raw, first_search(distilled)) for raw, distilled in data_pairs(systems)]
    searches = run_config.em.student.searches
    pairs += [(em_student(t), em_student(1), s) for t in range(2, run_config.em.iterations + 1) for s in searches]
    done = runs()
    return [
        option
        for system, baseline, search in pairs
        for seed in run_config.seeds_of(system)
        if (system, seed) in done and (baseline, seed) in done
        for option in ("--pair", translation(system, seed, search), translation(baseline, seed, search))
    ]


def whole_config(wildcards):
    return to_json(run_config)


def shard(position):
    """Parameter: the shard's number from 0 (position 0) or the number of shards (1), of a scatter item like 2-of-4."""

    def get(wildcards):
        return int(wildcards.scatteritem.split("-of-")[position]) - (1 - position)

    return get


def directory_of(path):
    """Parameter: the directory of the named input or output file, as in "input.weights"."""
    kind, name = path.split(".")

    def get(wildcards, input, output):
        files = {"input": input, "output": output}[kind][name]
        return os.path.dirname(files if isinstance(files, str) else files[0])

    return get


def script(name):
    """Parameter: path of a rule's script."""

    def get(wildcards):
        return os.path.relpath(ROOT / "workflow_scripts" / f"{name}.py")

    return get


def snakefile(wildcards):
    """Parameter: path of the workflow's main file."""
    return os.path.relpath(ROOT / "Snakefile")


def named_checkpoints(wildcards):
    """Parameter: every checkpoint as <system>/seed<K>=DIRECTORY."""
    return [f"{system}/seed{seed}={checkpoint_directory(system, seed)}" for system, seed in runs()]


def template_digest(wildcards):
    """Parameter: digest of the report's page, which is no code."""
    return value_digest((ROOT / "retort/report/report.html.jinja").read_text())


def rules_digest(wildcards):
    """Parameter: digest of the rules' files."""
    return value_digest([path.read_text() for path in [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]])


@cache
def digest_of_code(name, *modules):
    try:
        return code_digest([ROOT / "workflow_scripts" / f"{name}.py"], modules, root=ROOT)
    except RetortError as error:
        raise WorkflowError(str(error))


def code(name):
    """Parameter: digest of all code that the script can run, so that an edit re-runs what uses it."""

    def get(wildcards):
        return digest_of_code(name)

    return get


def training_code(wildcards):
    """Parameter: the digest, with the loss and the search this system uses, which are imported by their names."""
    system = run_config.systems[wildcards.system]
    search = system.searches[first_search(wildcards.system)]
    return digest_of_code("train_system", f"retort.losses.{system.objective.name}", f"retort.search.{search.kind}")


def distillation_code(wildcards):
    return digest_of_code("distill_shard", f"retort.search.{run_config.distillation.search.kind}")


def multimodality_code(wildcards):
    return digest_of_code(
        "measure_multimodality", f"retort.losses.{run_config.systems[wildcards.system].objective.name}"
    )


def translation_code(wildcards):
    kind = run_config.systems[wildcards.system].searches[wildcards.search].kind
    return digest_of_code("translate", f"retort.search.{kind}")


def latency_code(wildcards):
    kinds = {search.kind for system in run_config.systems.values() for search in system.searches.values()}
    return digest_of_code("measure_latency", *(f"retort.search.{kind}" for kind in sorted(kinds)))


SYSTEM = r"[A-Za-z0-9][A-Za-z0-9._-]*"


wildcard_constraints:
    system=SYSTEM,
    seed=r"\d+",
    search=r"[A-Za-z0-9][A-Za-z0-9._-]*",
    iteration=r"\d+",
