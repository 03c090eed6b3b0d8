# An external teacher: its outputs of the training text in shards, what of them trains, and its outputs of the tests.

# So many jobs ask it at the same time, whatever the number of cores: snakemake --resources teacher=N changes it.
if external and "teacher" not in workflow.global_resources:
    workflow.register_resource("teacher", external.jobs)


rule ask_teacher:
    input:
        teacher=of_job(plan.files_about_training),
        corpora=f"{R}/corpus/train.parquet",
    output:
        translations=f"{R}/distilled/external/shards/{{scatteritem}}.parquet",
    log:
        f"{R}/logs/ask_teacher/{{scatteritem}}.log",
    benchmark:
        f"{R}/benchmarks/ask_teacher/{{scatteritem}}.tsv"
    conda:
        teacher_environment
    threads: 1
    resources:
        gpu=gpus_of_job,
        teacher=1,
    params:
        script=script("ask_teacher"),
        code=code("ask_teacher", modules.asking),
        contents=contents_of(plan.files_about_training),
        asked=of_job(options.asked_about_training),
        # What does not change the answers must not ask again: Snakemake does not track a parameter that takes the output.
        teacher=lambda wildcards, output: options.external_teacher(),
        shard=of_job(options.shard),
        answers=f"{R}/answers",
    message:
        "Ask the external teacher about the training text, shard {wildcards.scatteritem}"
    shell:
        "python {params.script:q} --teacher {params.teacher:q} --corpora {input.corpora:q} {params.shard}"
        " --answers {params.answers:q} --threads {threads} --output {output.translations:q} 2> {log:q}"


rule judge_outputs:
    input:
        shards=gather.distill(f"{R}/distilled/external/shards/{{scatteritem}}.parquet"),
        corpus=f"{R}/corpus/train.parquet",
    output:
        judged=layout.judged("judged"),
        rejected=layout.judged("rejected"),
        judgement=layout.judged("judgement"),
    log:
        f"{R}/logs/judge_outputs/judged.log",
    benchmark:
        f"{R}/benchmarks/judge_outputs/judged.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("judge_outputs"),
        code=code("judge_outputs"),
        judging=of_job(options.judging),
        teacher=lambda wildcards, output: options.external_teacher(),
    message:
        "Judge the external teacher's outputs"
    shell:
        "python {params.script:q} --teacher {params.teacher:q} --shards {input.shards:q} --corpus {input.corpus:q}"
        " --output-judged {output.judged:q} --output-rejected {output.rejected:q}"
        " --output-judgement {output.judgement:q} 2> {log:q}"


use rule ask_teacher as translate_external with:
    input:
        teacher=of_job(plan.files_about_tests),
        corpora=TESTS,
    output:
        translations=layout.translations(Run(EXTERNAL, 0, "{search}")),
    log:
        f"{R}/logs/translate_external/{{search}}.log",
    benchmark:
        f"{R}/benchmarks/translate_external/{{search}}.tsv"
    params:
        contents=contents_of(plan.files_about_tests),
        asked=of_job(options.asked_about_tests),
        shard=[],
    message:
        "Translate the tests with the external teacher, {wildcards.search}"


# Validation and test sets without references: the teacher's outputs are theirs.
use rule ask_teacher as ask_held_out with:
    input:
        teacher=of_job(plan.files_about_held_out),
        corpora=of_job(plan.held_out_sources),
    output:
        translations=f"{R}/sources/outputs.parquet",
    log:
        f"{R}/logs/ask_held_out/held_out.log",
    benchmark:
        f"{R}/benchmarks/ask_held_out/held_out.tsv"
    params:
        contents=contents_of(plan.files_about_held_out),
        asked=of_job(options.asked_about_held_out),
        shard=[],
    message:
        "Ask the external teacher about validation and test sets without references"


rule fill_references:
    input:
        **layout.corpus_files(layout.prepared),
        outputs=f"{R}/sources/outputs.parquet",
    output:
        **layout.corpus_files(layout.filled),
    log:
        f"{R}/logs/fill_references/filled.log",
    benchmark:
        f"{R}/benchmarks/fill_references/filled.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("fill_references"),
        code=code("fill_references"),
        judging=of_job(options.judging),
        teacher=lambda wildcards, output: options.external_teacher(),
        sources=directory_of("input.train"),
        directory=directory_of("output.train"),
    message:
        "Make the external teacher's outputs the references of sets without references"
    shell:
        "python {params.script:q} --teacher {params.teacher:q} --outputs {input.outputs:q}"
        " --sources {params.sources:q} --output {params.directory:q} 2> {log:q}"
