# Text to tables: read or generate, clean and split; learn a vocabulary; encode.


rule prepare_corpus:
    input:
        texts=of_job(plan.corpus_texts),
    output:
        **layout.corpus_files(layout.prepared),
    log:
        f"{R}/logs/prepare_corpus/corpus.log",
    benchmark:
        f"{R}/benchmarks/prepare_corpus/corpus.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("prepare_corpus"),
        code=code("prepare_corpus", modules.corpus),
        contents=contents_of(plan.corpus_texts),
        # A mirror holds the same texts, so another one must not run anything again: Snakemake does not track a parameter
        # that takes the output as an argument. What decides the result is the next one.
        corpus=lambda wildcards, output: options.section("corpus"),
        deciding=of_job(options.corpus),
        cleaning=section("cleaning"),
        directory=directory_of("output.train"),
    message:
        "Read, clean and split the corpus"
    shell:
        "python {params.script:q} --corpus {params.corpus:q} --cleaning {params.cleaning:q}"
        " --output {params.directory:q} 2> {log:q}"


rule train_vocabulary:
    input:
        corpus=f"{R}/corpus/train.parquet",
        outputs=of_job(plan.vocabulary_outputs),
    output:
        **layout.learned_vocabulary(),
    log:
        f"{R}/logs/train_vocabulary/vocabulary.log",
    benchmark:
        f"{R}/benchmarks/train_vocabulary/vocabulary.tsv"
    conda:
        "../envs/retort.yaml"
    threads: 4
    params:
        script=script("train_vocabulary"),
        code=code("train_vocabulary"),
        vocabulary=section("vocabulary", without={"path"}),
        outputs=of_job(options.vocabulary_outputs),
        contents=contents_of(plan.vocabulary_outputs),
        directory=directory_of("output.vocabulary"),
    message:
        "Learn the vocabulary"
    shell:
        "python {params.script:q} --vocabulary {params.vocabulary:q} --corpus {input.corpus:q} {params.outputs:q}"
        " --output {params.directory:q} 2> {log:q}"


rule encode_corpus:
    input:
        **layout.vocabulary(),
        train=f"{R}/corpus/train.parquet",
        valid=f"{R}/corpus/valid.parquet",
        tests=TESTS,
    output:
        train=f"{R}/encoded/train.parquet",
        valid=f"{R}/encoded/valid.parquet",
        lengths=f"{R}/encoded/encoding.parquet",
    log:
        f"{R}/logs/encode_corpus/encoded.log",
    benchmark:
        f"{R}/benchmarks/encode_corpus/encoded.tsv"
    conda:
        "../envs/retort.yaml"
    threads: 4
    params:
        script=script("encode_corpus"),
        code=code("encode_corpus"),
        contents=contents_of(layout.vocabulary),
        vocabulary=directory_of("input.vocabulary"),
        lengths=of_job(options.lengths),
        directory=directory_of("output.train"),
    message:
        "Encode the corpus"
    shell:
        "python {params.script:q} --vocabulary {params.vocabulary:q} --corpus {input.train:q} {input.valid:q}"
        " --counted {input.tests:q} {params.lengths:q} --threads {threads} --output {params.directory:q} 2> {log:q}"


rule prepare_monolingual:
    input:
        **layout.vocabulary(),
        texts=of_job(plan.monolingual_texts),
        held_out=[f"{R}/corpus/valid.parquet", *TESTS],
    output:
        train=f"{R}/pretraining/train.parquet",
        valid=f"{R}/pretraining/valid.parquet",
    log:
        f"{R}/logs/prepare_monolingual/pretraining.log",
    benchmark:
        f"{R}/benchmarks/prepare_monolingual/pretraining.tsv"
    conda:
        "../envs/retort.yaml"
    threads: 4
    params:
        script=script("prepare_monolingual"),
        code=code("prepare_monolingual"),
        contents=contents_of(layout.vocabulary, plan.monolingual_texts),
        texts=of_job(partial(options.pretraining, "texts")),
        corpus=of_job(options.monolingual_corpus),
        block_tokens=of_job(partial(options.pretraining, "block_tokens")),
        valid_blocks=of_job(partial(options.pretraining, "valid_blocks")),
        mirror=lambda wildcards, output: options.mirror(),
        cleaning=section("cleaning"),
        vocabulary=directory_of("input.vocabulary"),
        directory=directory_of("output.train"),
    message:
        "Clean, encode and join the text to pre-train on"
    shell:
        "python {params.script:q} --texts {params.texts:q} {params.corpus:q} --held-out {input.held_out:q}"
        " --cleaning {params.cleaning:q} --vocabulary {params.vocabulary:q} --block-tokens {params.block_tokens:q}"
        " --valid-blocks {params.valid_blocks:q} {params.mirror:q} --threads {threads}"
        " --output {params.directory:q} 2> {log:q}"
