# Evaluation: tune searches on the validation set where that is asked for, translate the test sets with every search,
# score each result, compare systems.


rule tune_search:
    input:
        unpack(of_job(layout.checkpoint)),
        teacher=of_job(plan.rescoring_files),
        ngrams=of_job(plan.ngrams.files_of),
        valid=f"{R}/corpus/valid.parquet",
    output:
        search=layout.tuned(DECODING),
        table=f"{R}/tuning/{DECODING}.parquet",
    log:
        f"{R}/logs/tune_search/{DECODING}.log",
    benchmark:
        f"{R}/benchmarks/tune_search/{DECODING}.tsv"
    conda:
        "../envs/retort.yaml"
    threads: 1
    resources:
        gpu=gpus_of_job,
    params:
        script=script("tune_search"),
        code=code("tune_search", modules.tuning),
        contents=contents_of(layout.checkpoint, plan.rescoring_files, plan.ngrams.files_of),
        searches=of_job(options.tried_searches),
        metric=run_config.evaluation.metrics[0],
        tokenizer=run_config.evaluation.tokenizer,
        batch_tokens=run_config.evaluation.batch_tokens,
        checkpoint=directory_of("input.weights"),
        teacher=of_job(options.rescoring),
    message:
        "Tune {wildcards.system}, seed {wildcards.seed}, search {wildcards.search} on the validation set"
    shell:
        "python {params.script:q} --checkpoint {params.checkpoint:q} {params.teacher:q} --searches {params.searches:q}"
        " --system {wildcards.system:q} --seed {wildcards.seed} --search-name {wildcards.search:q}"
        " --metric {params.metric:q} --tokenizer {params.tokenizer:q} --batch-tokens {params.batch_tokens}"
        " --valid {input.valid:q} --threads {threads} --output {output.search:q} --output-table {output.table:q}"
        " 2> {log:q}"


rule translate:
    input:
        unpack(of_job(layout.checkpoint)),
        teacher=of_job(plan.rescoring_files),
        ngrams=of_job(plan.ngrams.files_of),
        tuned=of_job(plan.tuned_files),
        tests=TESTS,
    output:
        translations=layout.translations(DECODING),
    log:
        f"{R}/logs/translate/{DECODING}.log",
    benchmark:
        f"{R}/benchmarks/translate/{DECODING}.tsv"
    wildcard_constraints:
        system=rf"(?!{EXTERNAL}/){NAME_PATTERN}",
    conda:
        "../envs/retort.yaml"
    threads: 1
    resources:
        gpu=gpus_of_job,
    params:
        script=script("translate"),
        code=code("translate", modules.translation),
        contents=contents_of(layout.checkpoint, plan.rescoring_files, plan.ngrams.files_of),
        search=of_job(options.decoding_search),
        batch_tokens=run_config.evaluation.batch_tokens,
        checkpoint=directory_of("input.weights"),
        teacher=of_job(options.rescoring),
    message:
        "Translate the tests with {wildcards.system}, seed {wildcards.seed}, search {wildcards.search}"
    shell:
        "python {params.script:q} --checkpoint {params.checkpoint:q} {params.teacher:q} --search {params.search:q}"
        " --system {wildcards.system:q} --seed {wildcards.seed} --search-name {wildcards.search:q}"
        " --batch-tokens {params.batch_tokens} --tests {input.tests:q}"
        " --threads {threads} --output {output.translations:q} 2> {log:q}"


rule score_learned:
    input:
        translations=layout.translations(DECODING),
        program=of_job(plan.learned_files),
        tests=TESTS,
    output:
        segments=layout.segment_scores("{metric}", DECODING),
    log:
        f"{R}/logs/score_learned/{{metric}}/{DECODING}.log",
    benchmark:
        f"{R}/benchmarks/score_learned/{{metric}}/{DECODING}.tsv"
    wildcard_constraints:
        metric=NAME_PATTERN,
    conda:
        "../envs/retort.yaml"
    params:
        script=script("score_learned"),
        code=code("score_learned"),
        contents=contents_of(plan.learned_files),
        learned=of_job(options.learned),
    message:
        "Score {wildcards.system}, seed {wildcards.seed}, search {wildcards.search} with {wildcards.metric}"
    shell:
        "python {params.script:q} --translations {input.translations:q} --tests {input.tests:q}"
        " --metric {wildcards.metric:q} --learned {params.learned:q} --output {output.segments:q} 2> {log:q}"


rule score:
    input:
        translations=layout.translations(DECODING),
        learned=of_job(plan.segment_scores),
        tests=TESTS,
    output:
        scores=layout.scores(DECODING),
    log:
        f"{R}/logs/score/{DECODING}.log",
    benchmark:
        f"{R}/benchmarks/score/{DECODING}.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("score"),
        code=code("score", modules.scores),
        evaluation=section("evaluation", "metrics", "tokenizer"),
        learned=of_job(options.learned_scores),
        language=of_job(options.language),
        data=of_job(options.data),
    message:
        "Score {wildcards.system}, seed {wildcards.seed}, search {wildcards.search}"
    shell:
        "python {params.script:q} --translations {input.translations:q} --tests {input.tests:q}"
        " --data {params.data:q} --evaluation {params.evaluation:q} {params.language:q} {params.learned:q}"
        " --output {output.scores:q} 2> {log:q}"


rule compare_systems:
    input:
        baseline=of_job(plan.baseline),
        translations=of_job(plan.translations),
        learned=of_job(plan.all_segment_scores),
        tests=TESTS,
    output:
        comparison=f"{R}/scores/comparison.parquet",
    log:
        f"{R}/logs/compare_systems/comparison.log",
    benchmark:
        f"{R}/benchmarks/compare_systems/comparison.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("compare_systems"),
        code=code("compare_systems", modules.metrics),
        evaluation=section("evaluation", "bootstrap_samples", "metrics", "tokenizer"),
        pairs=of_job(options.pairs),
        learned=of_job(options.all_learned_scores),
    message:
        "Compare the systems"
    shell:
        "python {params.script:q} --evaluation {params.evaluation:q} --tests {input.tests:q}"
        " --baseline {input.baseline:q} --translations {input.translations:q} {params.pairs:q}"
        " {params.learned:q} --output {output.comparison:q} 2> {log:q}"


rule measure_multimodality:
    input:
        unpack(of_job(plan.multimodality_files)),
    output:
        multimodality=layout.multimodality(TRAINING),
    log:
        f"{R}/logs/measure_multimodality/{TRAINING}.log",
    benchmark:
        f"{R}/benchmarks/measure_multimodality/{TRAINING}.tsv"
    conda:
        "../envs/retort.yaml"
    threads: 1
    resources:
        gpu=gpus_of_job,
    params:
        script=script("measure_multimodality"),
        code=code("measure_multimodality", modules.scoring),
        contents=contents_of(plan.multimodality_files),
        data=of_job(options.data),
        checkpoint=directory_of("input.weights"),
    message:
        "Measure the multi-modality of the text of {wildcards.system}, seed {wildcards.seed}"
    shell:
        "python {params.script:q} --checkpoint {params.checkpoint:q} --held-out {input.held_out:q}"
        " --system {wildcards.system:q} --seed {wildcards.seed} --data {params.data:q} --threads {threads}"
        " --output {output.multimodality:q} 2> {log:q}"


rule score_by_length:
    input:
        translations=of_job(plan.translations),
        tests=TESTS,
    output:
        lengths=f"{R}/scores/lengths.parquet",
    log:
        f"{R}/logs/score_by_length/lengths.log",
    benchmark:
        f"{R}/benchmarks/score_by_length/lengths.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("score_by_length"),
        code=code("score_by_length", modules.metrics),
        evaluation=section("evaluation", "length_buckets", "metrics", "tokenizer"),
    message:
        "Score all systems by length"
    shell:
        "python {params.script:q} --translations {input.translations:q} --tests {input.tests:q}"
        " --evaluation {params.evaluation:q} --output {output.lengths:q} 2> {log:q}"


rule measure_exposure:
    input:
        unpack(of_job(layout.checkpoint)),
        teacher=of_job(plan.teacher_files),
        tests=TESTS,
    output:
        exposure=layout.exposure(TRAINING),
    log:
        f"{R}/logs/measure_exposure/{TRAINING}.log",
    benchmark:
        f"{R}/benchmarks/measure_exposure/{TRAINING}.tsv"
    conda:
        "../envs/retort.yaml"
    threads: 1
    resources:
        gpu=gpus_of_job,
    params:
        script=script("measure_exposure"),
        code=code("measure_exposure", modules.exposure),
        contents=contents_of(layout.checkpoint, plan.teacher_files),
        exposure=section("evaluation.exposure", without={"systems"}),
        metrics=run_config.evaluation.metrics,
        tokenizer=run_config.evaluation.tokenizer,
        batch_tokens=run_config.evaluation.batch_tokens,
        student=directory_of("input.weights"),
        teacher=directory_of("input.teacher"),
    message:
        "Measure the exposure bias of {wildcards.system}, seed {wildcards.seed}"
    shell:
        "python {params.script:q} --student {params.student:q} --teacher {params.teacher:q}"
        " --system {wildcards.system:q} --seed {wildcards.seed} --exposure {params.exposure:q}"
        " --metrics {params.metrics} --tokenizer {params.tokenizer} --batch-tokens {params.batch_tokens} --tests {input.tests:q} --threads {threads}"
        " --output {output.exposure:q} 2> {log:q}"
