# What the rules of the EM loop share: which model does what in which iteration, and how far the loop goes.

from retort.distillation.guards import verdicts
from retort.data.parquet import read_table
from retort.data.tables import GUARDS


def teacher_of(iteration, seed):
    """System and seed of the autoregressive model whose translations are an iteration's corpus."""
    return (em_teacher(iteration), seed) if iteration > 1 else ("teacher", TEACHER_SEED)


def iteration_directory(iteration, seed):
    """Directory of an iteration's tables; the corpus of the first one is the same for all seeds."""
    return f"{R}/em/iteration1" if iteration < 2 else f"{R}/em/iteration{iteration}/seed{seed}"


def loop_reaches(iteration, seed):
    """Whether the guards let the loop come to this iteration. Snakemake asks again when they are measured."""
    for t in range(2, iteration + 1):
        reason = verdicts(read_table(checkpoints.gather_guards.get(iteration=t).output.guards, GUARDS))[seed]
        if reason:
            if reason not in told:
                logger.warning(f"{reason}. The report names the iteration kept; em.guards holds the bounds.")
                told.add(reason)
            return False
    return True


told = set()


def guards_of_seeds(wildcards):
    """Input: an iteration's guards, of every seed that came to the iteration before."""
    t = int(wildcards.iteration)
    seeds = [seed for seed in run_config.seeds_of(em_student(1)) if loop_reaches(t - 1, seed)]
    return [f"{iteration_directory(t, seed)}/guards.parquet" for seed in seeds]


def candidate_decoder(wildcards):
    """System and seed of the model that decodes an iteration's candidates, and of the model that scores them."""
    iteration, seed = int(wildcards.iteration) - 1, int(wildcards.seed)
    return teacher_of(iteration, seed), (em_student(iteration), seed)


def checkpoint_of_candidates(wildcards):
    """Input: the checkpoint that decodes the candidates."""
    return checkpoint_files(*candidate_decoder(wildcards)[0])


def candidates_of(wildcards):
    """Input: a shard of candidates; those of the first teacher are the same for all seeds."""
    seed = run_config.seeds_of(em_student(1))[0] if wildcards.iteration == "2" else wildcards.seed
    return f"{R}/em/iteration{wildcards.iteration}/seed{seed}/candidates/{wildcards.scatteritem}.parquet"


def candidate_section(wildcards):
    """Parameter: the search for candidates: the distillation's, with as wide a beam as there are candidates."""
    em, search = run_config.em, run_config.distillation.search
    options = search.model_dump(mode="json") if search.kind == "beam" else {"kind": "beam"}
    return as_json(
        {
            "search": {**options, "beam_size": em.candidates},
            "batch_tokens": em.batch_tokens,
            "precision": em.precision,
        }
    )


def candidate_options(wildcards):
    """Parameter: the model that decodes the candidates, and the name of their search."""
    return decoder_options(*candidate_decoder(wildcards)[0], "candidates")


def iteration_options(wildcards):
    """Parameter: the model that translates the training text of an iteration."""
    return decoder_options(*teacher_of(int(wildcards.iteration), int(wildcards.seed)), "distillation")


def number_of_candidates(wildcards):
    return run_config.em.candidates


def held_out_options(wildcards, output):
    """Parameter: the pairs that train no parallel model."""
    return ["--held-out", str(run_config.em.held_out), "--output-held-out", output.held_out]


def scoring_files(wildcards):
    """Input: checkpoints of the models that score candidates."""
    decoder, scorer = candidate_decoder(wildcards)
    named = {"student": scorer, "teacher": decoder, "first": ("teacher", TEACHER_SEED)}
    return {
        f"{name}_{kind}": checkpoint_files(*run)[kind] for name, run in named.items() for kind in ("weights", "model")
    }


def choice_section(wildcards):
    """Parameter: how candidates are chosen."""
    return as_json(run_config.em.model_dump(mode="json", include={"choose_by", "normalise", "likelihood_floor"}))


def guards_section(wildcards):
    return as_json(run_config.em.guards.model_dump(mode="json"))


def checkpoint_of_iteration(wildcards):
    """Input: the checkpoint that translates the training text of an iteration."""
    return checkpoint_files(*teacher_of(int(wildcards.iteration), int(wildcards.seed)))


def all_guards(wildcards):
    """Input: the guards of every iteration that was tried."""
    seeds = run_config.seeds_of(em_student(1)) if run_config.em.iterations else []
    return [
        f"{R}/em/iteration{t}/guards.parquet"
        for t in range(2, run_config.em.iterations + 1)
        if any(loop_reaches(t - 1, seed) for seed in seeds)
    ]


def files_of_iterations(*iterations):
    """An input function: the checkpoints, scores and multi-modality of the given iterations."""
    systems = [system for system in run_config.systems if em_iteration(system) in iterations]

    def get(wildcards):
        return [*checkpoints_of(systems), *scores_of(systems), *multimodality_of(systems)]

    return get


def candidate_code(wildcards):
    return digest_of_code("distill_shard", "retort.search.beam", model_module("teacher"))


def choice_code(wildcards):
    systems = ("teacher", em_student(1))
    modules = [module(system) for system in systems for module in (objective_module, model_module)]
    return digest_of_code("select_candidates", *modules)


def guards_code(wildcards):
    modules = (objective_module("teacher"), model_module("teacher"), *metric_modules(["BLEU"]))
    return digest_of_code("check_iteration", *modules)
