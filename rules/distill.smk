# Distillation: the teacher translates the training sources in shards, and the shards become a training set.


rule decode_shard:
    input:
        unpack(of_job(plan.teacher_checkpoint)),
        corpus=f"{R}/corpus/train.parquet",
    output:
        translations=f"{R}/distilled/shards/{{scatteritem}}.parquet",
    log:
        f"{R}/logs/decode_shard/{{scatteritem}}.log",
    benchmark:
        f"{R}/benchmarks/decode_shard/{{scatteritem}}.tsv"
    # all students wait for it, unlike the tests' translations
    priority: 1
    conda:
        "../envs/retort.yaml"
    threads: 1
    resources:
        gpu=gpus_of_job,
    params:
        script=script("decode_shard"),
        code=code("decode_shard", modules.distillation),
        contents=contents_of(plan.teacher_checkpoint),
        distillation=section("distillation", without={"corpus"}),
        shard=of_job(options.shard),
        checkpoint=directory_of("input.weights"),
        decoder=of_job(options.decoder),
        best=1,
        state=f"{R}/state/decode_shard",
    message:
        "Translate the training text with the teacher, shard {wildcards.scatteritem}"
    shell:
        "python {params.script:q} --distillation {params.distillation:q} --checkpoint {params.checkpoint:q}"
        " {params.decoder:q} --corpus {input.corpus:q} {params.shard} --best {params.best}"
        " --state {params.state:q} --threads {threads} --output {output.translations:q} 2> {log:q}"


rule gather_distilled:
    input:
        **layout.vocabulary(),
        shards=lambda wildcards: plan.given_outputs() or gather.distill(f"{R}/distilled/shards/{{scatteritem}}.parquet"),
        train=f"{R}/encoded/train.parquet",
    output:
        translations=f"{R}/distilled/translations.parquet",
        encoded=f"{R}/distilled/encoded.parquet",
        encoding=f"{R}/distilled/encoding.parquet",
    log:
        f"{R}/logs/gather_distilled/distilled.log",
    benchmark:
        f"{R}/benchmarks/gather_distilled/distilled.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("gather_distilled"),
        code=code("gather_distilled"),
        contents=contents_of(layout.vocabulary, plan.given_outputs),
        vocabulary=directory_of("input.vocabulary"),
        # Another bound changes no text: Snakemake does not track a parameter that takes the output as an argument.
        max_untrained=lambda wildcards, output: run_config.training.max_untrained,
        held_out=[],
        encoding=lambda wildcards, output: [
            "--output-encoding",
            output.encoding,
            "--max-length",
            str(run_config.model.max_length),
        ],
    message:
        "Gather the teacher's translations"
    shell:
        "python {params.script:q} --shards {input.shards:q} --train {input.train:q}"
        " --vocabulary {params.vocabulary:q} --output-translations {output.translations:q}"
        " --max-untrained {params.max_untrained} --output-encoded {output.encoded:q}"
        " {params.held_out:q} {params.encoding:q} 2> {log:q}"


# For systems on interpolated text: all that the beam holds, and of that what is nearest to the reference.
use rule decode_shard as decode_beam with:
    output:
        translations=f"{R}/interpolated/shards/{{scatteritem}}.parquet",
    log:
        f"{R}/logs/decode_beam/{{scatteritem}}.log",
    benchmark:
        f"{R}/benchmarks/decode_beam/{{scatteritem}}.tsv"
    params:
        best=options.beam_size(),
        state=f"{R}/state/decode_beam",
    message:
        "Translate the training text with the teacher, shard {wildcards.scatteritem}, all of the beam"


rule gather_interpolated:
    input:
        **layout.vocabulary(),
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
        contents=contents_of(layout.vocabulary),
        vocabulary=directory_of("input.vocabulary"),
        tokenizer=run_config.evaluation.tokenizer,
        max_untrained=lambda wildcards, output: run_config.training.max_untrained,
    message:
        "Choose the hypotheses that are nearest to the references"
    shell:
        "python {params.script:q} --shards {input.shards:q} --corpus {input.corpus:q} --train {input.train:q}"
        " --vocabulary {params.vocabulary:q} --tokenizer {params.tokenizer} --max-untrained {params.max_untrained}"
        " --output {output.encoded:q} 2> {log:q}"


# For systems on mixed text: the references and the teacher's translations side by side.
rule gather_mixed:
    input:
        **layout.vocabulary(),
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
        contents=contents_of(layout.vocabulary),
        vocabulary=directory_of("input.vocabulary"),
    message:
        "Put references and the teacher's translations side by side"
    shell:
        "python {params.script:q} --translations {input.translations:q} --corpus {input.corpus:q}"
        " --train {input.train:q} --vocabulary {params.vocabulary:q} --output {output.train:q} 2> {log:q}"


# For selective mixtures: what a student on distilled text gets right of the references.
rule measure_agreement:
    input:
        unpack(of_job(layout.checkpoint)),
        train=f"{R}/encoded/train.parquet",
    output:
        agreement=layout.agreement(TRAINING),
    log:
        f"{R}/logs/measure_agreement/{TRAINING}.log",
    benchmark:
        f"{R}/benchmarks/measure_agreement/{TRAINING}.tsv"
    conda:
        "../envs/retort.yaml"
    threads: 1
    resources:
        gpu=gpus_of_job,
    params:
        script=script("measure_agreement"),
        code=code("measure_agreement", modules.scoring),
        contents=contents_of(layout.checkpoint),
        checkpoint=directory_of("input.weights"),
    message:
        "Measure how {wildcards.system}, seed {wildcards.seed}, agrees with the references"
    shell:
        "python {params.script:q} --checkpoint {params.checkpoint:q} --train {input.train:q} --threads {threads}"
        " --output {output.agreement:q} 2> {log:q}"


# For systems that read the teacher's labels: its most probable tokens at each position of a training text.
rule label_shard:
    input:
        unpack(of_job(plan.labelled_files)),
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
        code=code("label_shard", modules.labels),
        contents=contents_of(plan.labelled_files),
        distillation=section("distillation", "batch_tokens", "precision"),
        shard=of_job(options.shard),
        teacher=directory_of("input.teacher_weights"),
        vocabulary=directory_of("input.vocabulary"),
    message:
        "Label the {wildcards.data} text with the teacher, top {wildcards.top_k}, shard {wildcards.scatteritem}"
    shell:
        "python {params.script:q} --distillation {params.distillation:q} --teacher {params.teacher:q}"
        " --train {input.train:q} --vocabulary {params.vocabulary:q} --top-k {wildcards.top_k}"
        " {params.shard} --threads {threads} --output {output.labels:q} 2> {log:q}"


rule gather_labels:
    input:
        shards=gather.distill(f"{R}/labels/{{{{data}}}}/top{{{{top_k}}}}/{{scatteritem}}.parquet"),
        train=of_job(layout.text),
    output:
        labels=layout.labels("{data}", "{top_k}"),
    log:
        f"{R}/logs/gather_labels/{{data}}/top{{top_k}}.log",
    benchmark:
        f"{R}/benchmarks/gather_labels/{{data}}/top{{top_k}}.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("gather_labels"),
        code=code("gather_labels"),
    message:
        "Gather the teacher's labels of the {wildcards.data} text, top {wildcards.top_k}"
    shell:
        "python {params.script:q} --shards {input.shards:q} --train {input.train:q}"
        " --output {output.labels:q} 2> {log:q}"
