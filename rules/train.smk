# Training: one rule for the teacher and for every student, one job a system and seed.


rule train_system:
    input:
        unpack(training_files),
    output:
        weights=f"{R}/systems/{{system}}/seed{{seed}}/model.safetensors",
        model=f"{R}/systems/{{system}}/seed{{seed}}/model.json",
        source_vocabulary=f"{R}/systems/{{system}}/seed{{seed}}/source.model",
        target_vocabulary=f"{R}/systems/{{system}}/seed{{seed}}/target.model",
        log=f"{R}/systems/{{system}}/seed{{seed}}/training.parquet",
    log:
        f"{R}/logs/train_system/{{system}}/seed{{seed}}.log",
    benchmark:
        f"{R}/benchmarks/train_system/{{system}}/seed{{seed}}.tsv"
    conda:
        "../envs/retort.yaml"
    # Two small trainings side by side are faster than one on two threads; --set-threads train_system=N changes it.
    threads: 1
    params:
        script=script("train_system"),
        code=training_code,
        system=system_section,
        data=data_of,
        teacher=teacher_option,
        vocabulary=directory_of("input.vocabulary"),
        checkpoint=directory_of("output.weights"),
        state=f"{R}/state/train_system",
    shell:
        "python {params.script:q} --system {params.system:q} --seed {wildcards.seed} --data {params.data:q}"
        " --train {input.train:q} --valid {input.valid:q} --vocabulary {params.vocabulary:q} {params.teacher:q}"
        " --state {params.state:q} --threads {threads} --output {params.checkpoint:q} 2> {log:q}"
