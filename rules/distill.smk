# Distillation: the teacher translates the training sources in shards, and the shards become a training set.


rule distill_shard:
    input:
        unpack(checkpoint_of_teacher),
        corpus=f"{R}/corpus/train.parquet",
    output:
        translations=f"{R}/distilled/shards/{{scatteritem}}.parquet",
    log:
        f"{R}/logs/distill_shard/{{scatteritem}}.log",
    benchmark:
        f"{R}/benchmarks/distill_shard/{{scatteritem}}.tsv"
    conda:
        "../envs/retort.yaml"
    threads: 1
    resources:
        gpu=gpus_of_job,
    params:
        script=script("distill_shard"),
        code=distillation_code,
        distillation=distillation_section,
        shard=shard(0),
        shards=shard(1),
        checkpoint=directory_of("input.weights"),
        decoder=decoder_options("teacher", TEACHER_SEED, "distillation"),
        best=1,
        state=f"{R}/state/distill_shard",
        limits=kept_state,
    shell:
        "python {params.script:q} --distillation {params.distillation:q} --checkpoint {params.checkpoint:q}"
        " {params.decoder:q} --corpus {input.corpus:q} --shard {params.shard} --shards {params.shards} --best {params.best}"
        " --state {params.state:q} {params.limits:q} --threads {threads} --output {output.translations:q} 2> {log:q}"


rule gather_distilled:
    input:
        **vocabulary_files(),
        shards=distilled_translations,
        train=f"{R}/encoded/train.parquet",
    output:
        translations=f"{R}/distilled/translations.parquet",
        encoded=f"{R}/distilled/encoded.parquet",
    log:
        f"{R}/logs/gather_distilled/distilled.log",
    benchmark:
        f"{R}/benchmarks/gather_distilled/distilled.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("gather_distilled"),
        code=code("gather_distilled"),
        vocabulary=directory_of("input.vocabulary"),
        held_out=[],
    shell:
        "python {params.script:q} --shards {input.shards:q} --train {input.train:q}"
        " --vocabulary {params.vocabulary:q} --output-translations {output.translations:q}"
        " --output-encoded {output.encoded:q} {params.held_out:q} 2> {log:q}"


# For systems on interpolated text: all that the beam holds, and of that what is nearest to the reference.
use rule distill_shard as decode_beam with:
    output:
        translations=f"{R}/interpolated/shards/{{scatteritem}}.parquet",
    log:
        f"{R}/logs/decode_beam/{{scatteritem}}.log",
    benchmark:
        f"{R}/benchmarks/decode_beam/{{scatteritem}}.tsv"
    params:
        best=size_of_beam,
        state=f"{R}/state/decode_beam",


rule gather_interpolated:
    input:
        **vocabulary_files(),
        shards=gather.distill(f"{R}/interpolated/shards/{{scatteritem}}.parquet"),
        corpus=f"{R}/corpus/train.parquet",
        train=f"{R}/encoded/train.parquet",
    output:
        encoded=f"{R}/interpolated/encoded.parquet",
    log:
        f"{R}/logs/gather_interpolated/interpolated.log",
    benchmark:
        f"{R}/benchmarks/gather_interpolated/interpolated.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("gather_interpolated"),
        code=code("gather_interpolated"),
        vocabulary=directory_of("input.vocabulary"),
    shell:
        "python {params.script:q} --shards {input.shards:q} --corpus {input.corpus:q} --train {input.train:q}"
        " --vocabulary {params.vocabulary:q} --output {output.encoded:q} 2> {log:q}"


# For systems on mixed text: the references and the teacher's translations side by side.
rule gather_mixed:
    input:
        **vocabulary_files(),
        translations=f"{R}/distilled/translations.parquet",
        corpus=f"{R}/corpus/train.parquet",
        train=f"{R}/encoded/train.parquet",
    output:
        train=f"{R}/mixed/train.parquet",
    log:
        f"{R}/logs/gather_mixed/mixed.log",
    benchmark:
        f"{R}/benchmarks/gather_mixed/mixed.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("gather_mixed"),
        code=code("gather_mixed"),
        vocabulary=directory_of("input.vocabulary"),
    shell:
        "python {params.script:q} --translations {input.translations:q} --corpus {input.corpus:q}"
        " --train {input.train:q} --vocabulary {params.vocabulary:q} --output {output.train:q} 2> {log:q}"


# For selective mixtures: what a student on distilled text gets right of the references.
rule measure_agreement:
    input:
        unpack(checkpoint_of_run),
        train=f"{R}/encoded/train.parquet",
    output:
        agreement=f"{R}/agreement/{{system}}/seed{{seed}}.parquet",
    log:
        f"{R}/logs/measure_agreement/{{system}}/seed{{seed}}.log",
    benchmark:
        f"{R}/benchmarks/measure_agreement/{{system}}/seed{{seed}}.tsv"
    conda:
        "../envs/retort.yaml"
    threads: 1
    resources:
        gpu=gpus_of_job,
    params:
        script=script("measure_agreement"),
        code=agreement_code,
        checkpoint=directory_of("input.weights"),
    shell:
        "python {params.script:q} --checkpoint {params.checkpoint:q} --train {input.train:q} --threads {threads}"
        " --output {output.agreement:q} 2> {log:q}"


# For systems that read the teacher's labels: what it says at each position of a training text, in shards.
rule label_shard:
    input:
        unpack(labelled_files),
    output:
        labels=f"{R}/labels/{{data}}/top{{top_k}}/{{scatteritem}}.parquet",
    log:
        f"{R}/logs/label_shard/{{data}}/top{{top_k}}/{{scatteritem}}.log",
    benchmark:
        f"{R}/benchmarks/label_shard/{{data}}/top{{top_k}}/{{scatteritem}}.tsv"
    conda:
        "../envs/retort.yaml"
    threads: 1
    resources:
        gpu=gpus_of_job,
    params:
        script=script("label_shard"),
        code=labelling_code,
        distillation=section("distillation", "batch_tokens", "precision"),
        shard=shard(0),
        shards=shard(1),
        teacher=directory_of("input.teacher_weights"),
        vocabulary=directory_of("input.vocabulary"),
    shell:
        "python {params.script:q} --distillation {params.distillation:q} --teacher {params.teacher:q}"
        " --train {input.train:q} --vocabulary {params.vocabulary:q} --top-k {wildcards.top_k}"
        " --shard {params.shard} --shards {params.shards} --threads {threads} --output {output.labels:q} 2> {log:q}"


rule gather_labels:
    input:
        shards=gather.distill(f"{R}/labels/{{{{data}}}}/top{{{{top_k}}}}/{{scatteritem}}.parquet"),
        train=labelled_text,
    output:
        labels=f"{R}/labels/{{data}}/top{{top_k}}.parquet",
    log:
        f"{R}/logs/gather_labels/{{data}}/top{{top_k}}.log",
    benchmark:
        f"{R}/benchmarks/gather_labels/{{data}}/top{{top_k}}.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("gather_labels"),
        code=code("gather_labels"),
    shell:
        "python {params.script:q} --shards {input.shards:q} --train {input.train:q}"
        " --output {output.labels:q} 2> {log:q}"
