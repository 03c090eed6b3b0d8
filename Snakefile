# Retort: distils a slow autoregressive sequence generator into fast students, and measures what was gained and lost.
#
#     snakemake --cores all                                          the embedded default, config.yaml
#     snakemake --cores all --configfile configs/all-methods.yaml    seven objectives and the EM loop, same language
#     snakemake --cores all --configfile configs/multi30k-en-de.yaml
#     snakemake --cores all teacher                                  up to a stage; the stages are the rules below

from snakemake.utils import min_version

min_version("9.0")


# Number of jobs that the decoding of the training text is split into: --set-scatter distill=N.
scattergather:
    distill=4,


include: "rules/common.smk"
include: "rules/devices.smk"
include: "rules/cluster.smk"
include: "rules/corpus.smk"
include: "rules/train.smk"
include: "rules/external.smk"
include: "rules/distill.smk"
include: "rules/em.smk"
include: "rules/ngrams.smk"
include: "rules/evaluate.smk"
include: "rules/latency.smk"
include: "rules/report.smk"
include: "rules/progress.smk"
include: "rules/call.smk"


rule all:
    default_target: True
    input:
        # what does not wait for the EM loop is named too, so that it is done beside it
        plan.scores([*run_config.own_teachers, *run_config.students]),
        f"{R}/report/report.html",


# Stage 1: clean tables, and the same as token ids.
rule corpus:
    input:
        f"{R}/corpus/train.parquet",
        f"{R}/encoded/train.parquet",


# Before the systems that start from it: a model pre-trained on monolingual text, where there is some.
rule pretraining:
    input:
        plan.pretraining(),


# Stage 2: the autoregressive teacher, if the run has one of its own.
rule teacher:
    input:
        plan.checkpoints(run_config.own_teachers),


# Stage 3: the teacher's translations of the training text.
rule distill:
    input:
        plan.distilled(),


# Stage 4: the students.
rule students:
    input:
        plan.checkpoints(run_config.students),


# The EM loop: all of its iterations; each one is a target, too (em2, ...).
rule em:
    input:
        of_job(plan.iterations),


# Stage 5: translations of the test sets, their scores and comparisons.
rule evaluate:
    input:
        of_job(plan.scores),
        of_job(plan.multimodality),
        of_job(plan.exposure),
        of_job(plan.lengths),
        f"{R}/scores/comparison.parquet",


# Stage 6: time.
rule latency:
    input:
        f"{R}/latency/latency.parquet",


# Stage 7: one page that shows it all.
rule report:
    input:
        f"{R}/report/report.html",
