# The EM loop. Iteration 1 trains on the distilled text. For every later one: candidates of the autoregressive model so
# far, the choice among them, its guards, a new autoregressive model (train_student, em<t>-teacher), its translations,
# a new parallel model (train_student, em<t>).


use rule decode_shard as decode_candidates with:
    input:
        unpack(of_job(plan.candidate_checkpoint)),
        corpus=f"{R}/corpus/train.parquet",
    output:
        translations=f"{R}/em/iteration{{iteration}}/seed{{seed}}/candidates/{{scatteritem}}.parquet",
    log:
        f"{R}/logs/decode_candidates/iteration{{iteration}}/seed{{seed}}/{{scatteritem}}.log",
    benchmark:
        f"{R}/benchmarks/decode_candidates/iteration{{iteration}}/seed{{seed}}/{{scatteritem}}.tsv"
    params:
        code=code("decode_shard", modules.candidates),
        contents=contents_of(plan.candidate_checkpoint),
        distillation=of_job(options.candidates),
        decoder=of_job(options.candidate_decoder),
        best=run_config.em.candidates,
        state=f"{R}/state/decode_candidates",
    message:
        "Decode candidates of EM iteration {wildcards.iteration}, seed {wildcards.seed}, shard {wildcards.scatteritem}"


rule select_candidates:
    input:
        unpack(of_job(plan.scoring_files)),
        candidates=of_job(plan.candidates),
        train=f"{R}/encoded/train.parquet",
    output:
        selected=f"{R}/em/iteration{{iteration}}/seed{{seed}}/selected/{{scatteritem}}.parquet",
    log:
        f"{R}/logs/select_candidates/iteration{{iteration}}/seed{{seed}}/{{scatteritem}}.log",
    benchmark:
        f"{R}/benchmarks/select_candidates/iteration{{iteration}}/seed{{seed}}/{{scatteritem}}.tsv"
    conda:
        "../envs/retort.yaml"
    threads: 1
    resources:
        gpu=gpus_of_job,
    params:
        script=script("select_candidates"),
        code=code("select_candidates", modules.choice),
        contents=contents_of(plan.scoring_files),
        em=section("em", *CHOOSING),
        student=directory_of("input.student_weights"),
        teacher=directory_of("input.teacher_weights"),
        first_teacher=directory_of("input.first_weights"),
    message:
        "Choose candidates of EM iteration {wildcards.iteration}, seed {wildcards.seed}, shard {wildcards.scatteritem}"
    shell:
        "python {params.script:q} --em {params.em:q} --candidates {input.candidates:q} --train {input.train:q}"
        " --student {params.student:q} --teacher {params.teacher:q} --first-teacher {params.first_teacher:q}"
        " --threads {threads} --output {output.selected:q} 2> {log:q}"


rule check_iteration:
    input:
        unpack(of_job(plan.teacher_checkpoint)),
        selected=gather.distill(f"{R}/em/iteration{{{{iteration}}}}/seed{{{{seed}}}}/selected/{{scatteritem}}.parquet"),
        first=f"{R}/distilled/translations.parquet",
        corpus=f"{R}/corpus/train.parquet",
        train=f"{R}/encoded/train.parquet",
    output:
        guards=f"{R}/em/iteration{{iteration}}/seed{{seed}}/guards.parquet",
    log:
        f"{R}/logs/check_iteration/iteration{{iteration}}/seed{{seed}}.log",
    benchmark:
        f"{R}/benchmarks/check_iteration/iteration{{iteration}}/seed{{seed}}.tsv"
    conda:
        "../envs/retort.yaml"
    threads: 1
    resources:
        gpu=gpus_of_job,
    params:
        script=script("check_iteration"),
        code=code("check_iteration", modules.guards),
        contents=contents_of(plan.teacher_checkpoint),
        guards=section("em.guards"),
        tokenizer=run_config.evaluation.tokenizer,
        first_teacher=directory_of("input.weights"),
    message:
        "Check the guards of EM iteration {wildcards.iteration}, seed {wildcards.seed}"
    shell:
        "python {params.script:q} --guards {params.guards:q} --iteration {wildcards.iteration} --seed {wildcards.seed}"
        " --selected {input.selected:q} --first {input.first:q} --first-teacher {params.first_teacher:q}"
        " --corpus {input.corpus:q} --train {input.train:q} --tokenizer {params.tokenizer}"
        " --threads {threads} --output {output.guards:q} 2> {log:q}"


# A checkpoint of Snakemake: how far the loop goes depends on what it finds.
checkpoint gather_guards:
    input:
        guards=of_job(plan.guards_of),
    output:
        guards=f"{R}/em/iteration{{iteration}}/guards.parquet",
    log:
        f"{R}/logs/gather_guards/iteration{{iteration}}.log",
    benchmark:
        f"{R}/benchmarks/gather_guards/iteration{{iteration}}.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("gather_guards"),
        code=code("gather_guards"),
    message:
        "Decide whether EM iteration {wildcards.iteration} runs"
    shell:
        "python {params.script:q} --guards {input.guards:q} --output {output.guards:q} 2> {log:q}"


rule gather_selected:
    input:
        **layout.vocabulary(),
        selected=gather.distill(f"{R}/em/iteration{{{{iteration}}}}/seed{{{{seed}}}}/selected/{{scatteritem}}.parquet"),
        # the script asks for its verdict alone, so another bound that is met makes nothing again
        guards=ancient(f"{R}/em/iteration{{iteration}}/seed{{seed}}/guards.parquet"),
        train=f"{R}/encoded/train.parquet",
    output:
        selected=f"{R}/em/iteration{{iteration}}/seed{{seed}}/selected.parquet",
    log:
        f"{R}/logs/gather_selected/iteration{{iteration}}/seed{{seed}}.log",
    benchmark:
        f"{R}/benchmarks/gather_selected/iteration{{iteration}}/seed{{seed}}.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("gather_selected"),
        code=code("gather_selected"),
        contents=contents_of(layout.vocabulary),
        vocabulary=directory_of("input.vocabulary"),
    message:
        "Gather the candidates chosen for EM iteration {wildcards.iteration}, seed {wildcards.seed}"
    shell:
        "python {params.script:q} --selected {input.selected:q} --guards {input.guards:q} --train {input.train:q}"
        " --vocabulary {params.vocabulary:q} --output {output.selected:q} 2> {log:q}"


use rule decode_shard as decode_iteration with:
    input:
        unpack(of_job(plan.corpus_checkpoint)),
        corpus=f"{R}/corpus/train.parquet",
    output:
        translations=f"{R}/em/iteration{{iteration}}/seed{{seed}}/shards/{{scatteritem}}.parquet",
    log:
        f"{R}/logs/decode_iteration/iteration{{iteration}}/seed{{seed}}/{{scatteritem}}.log",
    benchmark:
        f"{R}/benchmarks/decode_iteration/iteration{{iteration}}/seed{{seed}}/{{scatteritem}}.tsv"
    params:
        code=code("decode_shard", modules.iteration),
        contents=contents_of(plan.corpus_checkpoint),
        decoder=of_job(options.iteration_decoder),
    message:
        "Translate the training text of EM iteration {wildcards.iteration}, seed {wildcards.seed}, shard {wildcards.scatteritem}"


# Iteration 0: what the multi-modality of the others is compared with.
rule hold_out_references:
    input:
        train=f"{R}/encoded/train.parquet",
    output:
        train=f"{R}/em/iteration0/train.parquet",
        held_out=f"{R}/em/iteration0/held_out.parquet",
    log:
        f"{R}/logs/hold_out_references/iteration0.log",
    benchmark:
        f"{R}/benchmarks/hold_out_references/iteration0.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("hold_out_references"),
        code=code("hold_out_references"),
        held_out=options.held_out(f"{R}/em/iteration0/held_out.parquet"),
    message:
        "Hold out references"
    shell:
        "python {params.script:q} --train {input.train:q} --output {output.train:q} {params.held_out:q} 2> {log:q}"


use rule gather_distilled as gather_first with:
    output:
        translations=f"{R}/em/iteration1/translations.parquet",
        encoded=f"{R}/em/iteration1/train.parquet",
        held_out=f"{R}/em/iteration1/held_out.parquet",
    log:
        f"{R}/logs/gather_first/iteration1.log",
    benchmark:
        f"{R}/benchmarks/gather_first/iteration1.tsv"
    params:
        held_out=options.held_out(f"{R}/em/iteration1/held_out.parquet"),
        encoding=[],
    message:
        "Gather the training text of EM iteration 1"


use rule gather_distilled as gather_iteration with:
    input:
        **layout.vocabulary(),
        shards=gather.distill(f"{R}/em/iteration{{{{iteration}}}}/seed{{{{seed}}}}/shards/{{scatteritem}}.parquet"),
        train=f"{R}/encoded/train.parquet",
    output:
        translations=f"{R}/em/iteration{{iteration}}/seed{{seed}}/translations.parquet",
        encoded=f"{R}/em/iteration{{iteration}}/seed{{seed}}/train.parquet",
        held_out=f"{R}/em/iteration{{iteration}}/seed{{seed}}/held_out.parquet",
    log:
        f"{R}/logs/gather_iteration/iteration{{iteration}}/seed{{seed}}.log",
    benchmark:
        f"{R}/benchmarks/gather_iteration/iteration{{iteration}}/seed{{seed}}.tsv"
    params:
        contents=contents_of(layout.vocabulary),
        held_out=of_job(options.iteration_held_out),
        encoding=[],
    message:
        "Gather the training text of EM iteration {wildcards.iteration}, seed {wildcards.seed}"


# Each iteration as a target, with those that it needs.
for t in range(1, run_config.em.iterations + 1):

    rule:
        name:
            em_student(t)
        input:
            of_job(partial(plan.iterations, t)),
