# n-grams of target tokens, for searches with an n-gram model.


rule count_ngrams:
    input:
        **layout.vocabulary(),
        text=of_job(plan.ngrams.texts),
        held_out=of_job(plan.ngrams.held_out),
    output:
        table=layout.ngrams("{table}"),
    log:
        f"{R}/logs/count_ngrams/{{table}}.log",
    benchmark:
        f"{R}/benchmarks/count_ngrams/{{table}}.tsv"
    conda:
        "../envs/retort.yaml"
    threads: 1
    params:
        script=script("count_ngrams"),
        code=code("count_ngrams"),
        contents=contents_of(layout.vocabulary, plan.ngrams.texts),
        counting=of_job(options.counting),
        mirror=lambda wildcards, output: options.mirror(),
        vocabulary=directory_of("input.vocabulary"),
    message:
        "Count the n-grams {wildcards.table}"
    shell:
        "python {params.script:q} {params.counting:q} {params.mirror:q} --vocabulary {params.vocabulary:q}"
        " --threads {threads} --output {output.table:q} 2> {log:q}"
