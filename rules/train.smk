# Training: one job per system and seed. Teacher, students, and students whose targets another student chooses have
# rules of their own, because each needs inputs that the one before it produces.


rule train_teacher:
    input:
        unpack(of_job(plan.training_files)),
    output:
        **layout.trained(TRAINING),
        log=layout.training_log(TRAINING),
    log:
        f"{R}/logs/train_teacher/{TRAINING}.log",
    benchmark:
        f"{R}/benchmarks/train_teacher/{TRAINING}.tsv"
    wildcard_constraints:
        system="teacher",
    priority: of_job(plan.training_cost)
    conda:
        "../envs/retort.yaml"
    # Two small trainings side by side are faster than one on two threads; --set-threads changes it.
    threads: 1
    resources:
        gpu=gpus_of_job,
    params:
        script=script("train_system"),
        code=code("train_system", modules.training),
        contents=contents_of(plan.training_files),
        # Saving more or less often, or another bound, must not train again: Snakemake does not track a parameter that
        # takes the output as an argument. What decides the result is the next one.
        system=lambda wildcards, output: options.system(wildcards.system),
        deciding=of_job(options.deciding),
        data=of_job(options.data),
        start=of_job(options.start),
        teacher=of_job(options.teacher),
        agreement=of_job(options.agreement),
        labels=of_job(options.labels),
        vocabulary=directory_of("input.vocabulary"),
        checkpoint=directory_of("output.weights"),
        state=f"{R}/state/train_system",
        limits=limits_of_job,
        processes=processes_of_job,
    message:
        "Train {wildcards.system}, seed {wildcards.seed}"
    shell:
        "python {params.script:q} --system {params.system:q} --seed {wildcards.seed} --data {params.data:q}"
        " --train {input.train:q} --valid {input.valid:q} --vocabulary {params.vocabulary:q} {params.start:q}"
        " {params.teacher:q} {params.agreement:q} {params.labels:q} --state {params.state:q} {params.limits:q}"
        " {params.processes:q} --threads {threads} --output {params.checkpoint:q} 2> {log:q}"


use rule train_teacher as train_student with:
    log:
        f"{R}/logs/train_student/{TRAINING}.log",
    benchmark:
        f"{R}/benchmarks/train_student/{TRAINING}.tsv"
    wildcard_constraints:
        system=rf"(?!({names_as_pattern('teacher', PRETRAINED, *plan.selective())})/){NAME_PATTERN}",
    message:
        "Train {wildcards.system}, seed {wildcards.seed}"


use rule train_teacher as train_selective with:
    log:
        f"{R}/logs/train_selective/{TRAINING}.log",
    benchmark:
        f"{R}/benchmarks/train_selective/{TRAINING}.tsv"
    wildcard_constraints:
        system=names_as_pattern(*plan.selective()),
    message:
        "Train {wildcards.system}, seed {wildcards.seed}, on targets that another system chooses"


use rule train_teacher as pretrain with:
    log:
        f"{R}/logs/pretrain/{TRAINING}.log",
    benchmark:
        f"{R}/benchmarks/pretrain/{TRAINING}.tsv"
    wildcard_constraints:
        system=PRETRAINED,
    message:
        "Train the model that others start from, seed {wildcards.seed}"
