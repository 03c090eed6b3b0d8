# Retort: distils a slow autoregressive sequence generator into fast students, and measures what was gained and lost.
#
#     snakemake --cores all                                          the embedded default, config.yaml
#     snakemake --cores all --configfile configs/multi30k-en-de.yaml
#     snakemake --cores all teacher                                  up to a stage; the stages are the rules below

from snakemake.utils import min_version

min_version("9.0")


include: "rules/common.smk"
include: "rules/parameters.smk"
include: "rules/em_common.smk"
include: "rules/devices.smk"
include: "rules/cluster.smk"


onstart:
    hold_run()
    code_records.keep()
    Call.of(workflow).write(Path(R))
    prepare_cluster()


onsuccess:
    forget_finished_states()


# Number of jobs that the decoding of the training text is split into: --set-scatter distill=N.
scattergather:
    distill=4,


include: "rules/corpus.smk"
include: "rules/train.smk"
include: "rules/distill.smk"
include: "rules/em.smk"
include: "rules/evaluate.smk"
include: "rules/latency.smk"
include: "rules/report.smk"


# ---- targets --------------------------------------------------------------------------------------------------------


rule all:
    default_target: True
    input:
        # what does not wait for the EM loop is named too, so that it is done beside it
        scores_of(["teacher", *run_config.students]),
        f"{R}/report/report.html",


# Stage 1: clean tables, and the same as token ids.
rule corpus:
    input:
        f"{R}/corpus/train.parquet",
        f"{R}/encoded/train.parquet",


# Stage 2: the autoregressive teacher.
rule teacher:
    input:
        checkpoints_of(["teacher"]),


# Stage 3: the teacher's translations of the training text.
rule distill:
    input:
        f"{R}/distilled/encoded.parquet",


# Stage 4: the students.
rule students:
    input:
        checkpoints_of(run_config.students),


# Before the systems that start from it: a model pre-trained on monolingual text, where there is some.
rule pretraining:
    input:
        [*checkpoint_files(PRETRAINED, run_config.seeds_of(PRETRAINED)[0]).values()] if run_config.pretraining else [],


# The EM loop: all of its iterations, or one (em2, ...) with those it needs.
rule em:
    input:
        files_of_iterations(*range(1, run_config.em.iterations + 1)),


for t in range(1, run_config.em.iterations + 1):

    rule:
        name:
            em_student(t)
        input:
            files_of_iterations(t),


# Stage 5: translations of the test sets, their scores and comparisons.
rule evaluate:
    input:
        all_scores,
        all_multimodality,
        all_exposure,
        all_lengths,
        f"{R}/scores/comparison.parquet",


# Stage 6: time.
rule latency:
    input:
        f"{R}/latency/latency.parquet",


# Stage 7: one page that shows it all.
rule report:
    input:
        f"{R}/report/report.html",
