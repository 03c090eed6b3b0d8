# Parameters of the rules: each takes only what it needs, so that nothing else re-runs it; the code it can run is one
# of them, as a digest.


def as_json(value):
    return json.dumps(value, ensure_ascii=False)


def section(name, *keys):
    """Parameter: a section of the configuration as JSON; only the named keys, if any are named."""

    def get(wildcards):
        chosen = getattr(run_config, name)
        value = chosen.model_dump(mode="json", exclude_none=True)
        # a null is left out where it is the default, and only there
        value |= {
            key: None
            for key, field in type(chosen).model_fields.items()
            if key not in value and field.default is not None
        }
        return as_json({key: value[key] for key in keys or value if key in value})

    return get


def corpus_section(wildcards):
    return as_json(run_config.corpus.model_dump(mode="json", exclude_none=True, exclude=set(run_config.corpus.local_keys)))


def language_option(wildcards):
    """Parameter: --language SECTION where the right translations are known, nothing elsewhere."""
    return ["--language", corpus_section(wildcards)] if run_config.corpus.knows_right_translations else []


def pretraining_key(key):
    """Parameter: a key of the pretraining section, as JSON; the rule runs only where there is one."""

    def get(wildcards):
        value = run_config.pretraining and run_config.pretraining.model_dump(mode="json", exclude_none=True)[key]
        return as_json(value)

    return get


def training_text_option(wildcards):
    """Parameter: --corpus TABLE where no text to pre-train on is given, nothing elsewhere."""
    given = run_config.pretraining and run_config.pretraining.texts
    return [] if given else ["--corpus", f"{R}/corpus/train.parquet"]


def mirror_option(wildcards, output):
    """Parameter: --mirror DIRECTORY. A mirror holds the same texts, so another one must not re-run anything: Snakemake
    does not track a parameter that takes the output as an argument."""
    mirror = run_config.corpus.mirror_directory
    return ["--mirror", mirror] if mirror else []


def decoding_batch_tokens(wildcards):
    return run_config.evaluation.batch_tokens


def metric_names(wildcards):
    return run_config.evaluation.metrics


def exposure_section(wildcards):
    """Parameter: how exposure bias is measured, whatever the systems."""
    return as_json(run_config.evaluation.exposure.model_dump(mode="json", exclude={"systems"}))


def vocabulary_section(wildcards):
    return as_json(run_config.vocabulary.model_dump(mode="json", exclude={"path"}))


def length_options(wildcards):
    """Parameter: the longest sequence of the models, and whether sources are cut to it."""
    cut = ["--truncate-sources"] if run_config.model.truncate_sources else []
    return ["--max-length", str(run_config.model.max_length), *cut]


def distillation_section(wildcards):
    return as_json(run_config.distillation.model_dump(mode="json", exclude={"corpus"}))


def decoder_options(system, seed, search):
    """Parameter: system, seed and name of the search, which are columns of translations."""
    return ["--system", system, "--seed", str(seed), "--search-name", search]


def size_of_beam(wildcards):
    return run_config.distillation.search.beam_size


def system_section(wildcards):
    """Parameter: what the training depends on. Of the searches only the first one, which validates, and no name."""
    system = run_config.trained[wildcards.system]
    value = system.model_dump(mode="json", exclude={"seeds", "checkpoint", "searches"})
    return as_json({**value, "searches": {"validation": search_of(wildcards.system, first_search(wildcards.system))}})


def search_of(system, search):
    return run_config.trained[system].searches[search].model_dump(mode="json")


def rescores(system, search):
    """Whether a search of a system asks the teacher."""
    return run_config.systems[system].searches[search].needs_teacher


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
    return run_config.trained[wildcards.system].data


def start_option(wildcards):
    """Parameter: --start DIRECTORY for a training that starts from a checkpoint, nothing for the others."""
    start = starting_run(wildcards.system, int(wildcards.seed))
    return ["--start", checkpoint_directory(*start)] if start else []


def teacher_option(wildcards):
    """Parameter: --teacher DIRECTORY for a training that asks the teacher, nothing for the others."""
    asked = asks_teacher(wildcards.system)
    return ["--teacher", checkpoint_directory("teacher", TEACHER_SEED)] if asked else []


def agreement_option(wildcards, input):
    """Parameter: --agreement FILE for a training whose targets another model chooses, nothing for the others."""
    return ["--agreement", input.agreement] if "agreement" in input.keys() else []


def labels_option(wildcards):
    """Parameter: --labels FILE for a training that reads what the teacher said, nothing for the others."""
    labels = stored_labels(wildcards.system)
    return ["--labels", labels] if labels else []


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
    """Parameter: --pair SYSTEM BASELINE, seed by seed, for systems that differ in their training data only, for the
    iterations of the EM loop, each search against the same one of the first iteration, and for evaluation.baselines."""
    systems = {name: system.model_dump(mode="json") for name, system in run_config.systems.items()}
    pairs = [(distilled, raw, first_search(distilled)) for raw, distilled in data_pairs(systems)]
    searches = run_config.em.student.searches
    pairs += [(em_student(t), em_student(1), s) for t in range(2, run_config.em.iterations + 1) for s in searches]
    done = runs()
    options = [
        ("--pair", translation(system, seed, search), translation(baseline, seed, search))
        for system, baseline, search in pairs
        for seed in run_config.seeds_of(system)
        if (system, seed) in done and (baseline, seed) in done
    ]
    baselines = run_config.evaluation.baselines
    for system, seed, search in decodings(baselines):
        for baseline, same in counterparts(search, baselines[system], lambda s: list(run_config.systems[s].searches)):
            other = translation(*run_of(baseline, seed), same)
            options.append(("--pair", translation(system, seed, search), other))
    return [part for option in options for part in option]


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


def digest_of_code(name, *modules):
    try:
        return code_records.digest(ROOT / "workflow_scripts" / f"{name}.py", modules)
    except RetortError as error:
        raise WorkflowError(str(error))


def code(name):
    """Parameter: digest of all code that the script can run, so that an edit re-runs what uses it."""

    def get(wildcards):
        return digest_of_code(name)

    return get


# Objectives, searches, metrics and families of models are imported by their names, which the configuration gives.


def objective_module(system):
    return f"retort.objectives.{run_config.trained[system].objective.name}"


def search_module(search):
    return f"retort.search.{search.kind}"


def model_module(system):
    return family_module(run_config.trained[system].objective, run_config.trained[system].model)


def metric_modules(metrics):
    return sorted({metric_named(metric).module for metric in metrics})


def scoring_code(name):
    """Parameter: digest of a script that scores with the metrics of the run."""

    def get(wildcards):
        return digest_of_code(name, *metric_modules(run_config.evaluation.metrics))

    return get


def training_code(wildcards):
    """Parameter: the digest, with the objective, the model, the search and the metrics this system uses, and its
    teacher's model."""
    name = wildcards.system
    search = run_config.trained[name].searches[first_search(name)]
    teachers = ["teacher"] if asks_teacher(name) else []
    models = [model_module(system) for system in (name, *teachers)]
    metrics = metric_modules(run_config.trained[name].training.validation_metrics)
    return digest_of_code("train_system", objective_module(name), search_module(search), *models, *metrics)


def distillation_code(wildcards):
    return digest_of_code("distill_shard", search_module(run_config.distillation.search), model_module("teacher"))


def labelling_code(wildcards):
    return digest_of_code("label_shard", model_module("teacher"))


def multimodality_code(wildcards):
    name = wildcards.system
    return digest_of_code("measure_multimodality", objective_module(name), model_module(name))


def agreement_code(wildcards):
    name = wildcards.system
    return digest_of_code("measure_agreement", objective_module(name), model_module(name))


def exposure_code(wildcards):
    search = search_module(run_config.evaluation.exposure.search)
    models = (model_module(wildcards.system), model_module("teacher"))
    return digest_of_code("measure_exposure", search, *models, *metric_modules(run_config.evaluation.metrics))


def translation_code(wildcards):
    name, search = wildcards.system, wildcards.search
    models = [model_module(system) for system in (name, *(["teacher"] if rescores(name, search) else []))]
    return digest_of_code("translate", search_module(run_config.systems[name].searches[search]), *models)


def score_code(wildcards):
    judge = run_config.corpus.judge
    judges = [f"retort.corpus.{judge}"] if judge else []
    return digest_of_code("score", *judges, *metric_modules(run_config.evaluation.metrics))


def corpus_code(wildcards):
    return digest_of_code("prepare_corpus", f"retort.corpus.{run_config.corpus.module}")


def latency_code(wildcards):
    searches = {search_module(search) for system in run_config.systems.values() for search in system.searches.values()}
    models = {model_module(system) for system in run_config.systems}
    return digest_of_code("measure_latency", *sorted(searches | models))
