# Text to tables: read or generate, clean and split; learn a vocabulary; encode.


rule prepare_corpus:
    input:
        texts=corpus_texts,
    output:
        train=f"{R}/corpus/train.parquet",
        valid=f"{R}/corpus/valid.parquet",
        tests=TESTS,
        cleaning=f"{R}/corpus/cleaning.parquet",
        facts=f"{R}/corpus/corpus.json",
    log:
        f"{R}/logs/prepare_corpus/corpus.log",
    benchmark:
        f"{R}/benchmarks/prepare_corpus/corpus.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("prepare_corpus"),
        code=corpus_code,
        corpus=corpus_section,
        mirror=mirror_option,
        cleaning=section("cleaning"),
        directory=directory_of("output.train"),
    shell:
        "python {params.script:q} --corpus {params.corpus:q} --cleaning {params.cleaning:q}"
        " {params.mirror:q} --output {params.directory:q} 2> {log:q}"


rule train_vocabulary:
    input:
        corpus=f"{R}/corpus/train.parquet",
    output:
        source_vocabulary=f"{R}/vocabulary/source.model",
        target_vocabulary=f"{R}/vocabulary/target.model",
        vocabulary=f"{R}/vocabulary/vocabulary.json",
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
        vocabulary=vocabulary_section,
        directory=directory_of("output.vocabulary"),
    shell:
        "python {params.script:q} --vocabulary {params.vocabulary:q} --corpus {input.corpus:q} --seed 1"
        " --output {params.directory:q} 2> {log:q}"


rule encode_corpus:
    input:
        **vocabulary_files(),
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
        vocabulary=directory_of("input.vocabulary"),
        lengths=length_options,
        directory=directory_of("output.train"),
    shell:
        "python {params.script:q} --vocabulary {params.vocabulary:q} --corpus {input.train:q} {input.valid:q}"
        " --counted {input.tests:q} {params.lengths:q} --threads {threads} --output {params.directory:q} 2> {log:q}"


rule prepare_monolingual:
    input:
        **vocabulary_files(),
        texts=monolingual_texts,
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
        texts=pretraining_key("texts"),
        corpus=training_text_option,
        block_tokens=pretraining_key("block_tokens"),
        valid_blocks=pretraining_key("valid_blocks"),
        mirror=mirror_option,
        cleaning=section("cleaning"),
        vocabulary=directory_of("input.vocabulary"),
        directory=directory_of("output.train"),
    shell:
        "python {params.script:q} --texts {params.texts:q} {params.corpus:q} --held-out {input.held_out:q}"
        " --cleaning {params.cleaning:q} --vocabulary {params.vocabulary:q} --block-tokens {params.block_tokens:q}"
        " --valid-blocks {params.valid_blocks:q} {params.mirror:q} --threads {threads}"
        " --output {params.directory:q} 2> {log:q}"
