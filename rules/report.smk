# The report: one HTML page, its figures and a table of results.


rule write_config:
    output:
        config=f"{R}/config.json",
    log:
        f"{R}/logs/write_config/config.log",
    benchmark:
        f"{R}/benchmarks/write_config/config.tsv"
    localrule: True
    conda:
        "../envs/retort.yaml"
    params:
        config=lambda wildcards: to_json(run_config),
    message:
        "Write the configuration"
    shell:
        "printf '%s\\n' {params.config:q} > {output.config:q} 2> {log:q}"


rule draw_rules:
    input:
        config=f"{R}/config.json",
    output:
        graph=f"{R}/report/rulegraph.dot",
    log:
        f"{R}/logs/draw_rules/rulegraph.log",
    benchmark:
        f"{R}/benchmarks/draw_rules/rulegraph.tsv"
    localrule: True
    conda:
        "../envs/retort.yaml"
    params:
        snakefile=lambda wildcards, output: os.path.relpath(ROOT / "Snakefile"),
        rules=text_digest(
            "Snakefile", "rules/*.smk", *(f"retort/workflow/{m}.py" for m in ("plan", "layout", "ngram_tables"))
        ),
    message:
        "Draw the graph of the rules"
    shell:
        "python -m snakemake --snakefile {params.snakefile:q} --configfile {input.config:q} --rulegraph"
        " --forceall --nolock --cores 1 --quiet > {output.graph:q} 2> {log:q}"


rule build_report:
    input:
        config=f"{R}/config.json",
        corpus=f"{R}/corpus/{CORPUS_DESCRIPTION}",
        cleaning=f"{R}/corpus/{CLEANING_TABLE}",
        encoding=of_job(plan.encodings),
        gathered=of_job(plan.gathered),
        pretraining=of_job(plan.pretraining_text),
        tests=TESTS,
        scores=of_job(plan.scores),
        comparison=f"{R}/scores/comparison.parquet",
        latency=f"{R}/latency/latency.parquet",
        checkpoints=of_job(plan.checkpoints),
        logs=of_job(plan.training_logs),
        multimodality=of_job(plan.multimodality),
        guards=of_job(plan.guards),
        judgement=of_job(plan.judgement),
        lengths=of_job(plan.lengths),
        exposure=of_job(plan.exposure),
        translations=of_job(plan.translations),
        graph=f"{R}/report/rulegraph.dot",
    output:
        html=report(f"{R}/report/report.html", caption="captions/report.rst", category="Report"),
        quality_latency=report(
            f"{R}/report/quality_latency.png",
            caption="captions/quality_latency.rst",
            category="Figures",
        ),
        training_curves=report(
            f"{R}/report/training_curves.png",
            caption="captions/training_curves.rst",
            category="Figures",
        ),
        mixed_training=report(
            f"{R}/report/mixed_training.png",
            caption="captions/mixed_training.rst",
            category="Figures",
        ),
        em_iterations=report(
            f"{R}/report/em_iterations.png",
            caption="captions/em_iterations.rst",
            category="Figures",
        ),
        lengths=report(
            f"{R}/report/lengths.png",
            caption="captions/lengths.rst",
            category="Figures",
        ),
        results=report(
            f"{R}/report/results.csv",
            caption="captions/results.rst",
            category="Tables",
        ),
        differences=report(
            f"{R}/report/differences.csv",
            caption="captions/differences.rst",
            category="Tables",
        ),
        verdict=f"{R}/report/verdict.txt",
    log:
        f"{R}/logs/build_report/report.log",
    benchmark:
        f"{R}/benchmarks/build_report/report.tsv"
    conda:
        "../envs/retort.yaml"
    params:
        script=script("build_report"),
        code=code("build_report"),
        contents=contents_of(plan.checkpoints),
        template=text_digest("retort/report/*.jinja"),
        corpus=directory_of("input.corpus"),
        checkpoints=of_job(plan.named_checkpoints),
        benchmarks=f"{R}/benchmarks",
        directory=directory_of("output.html"),
    message:
        "Build the report"
    shell:
        "python {params.script:q} --config {input.config:q} --corpus {params.corpus:q}"
        " --encoding {input.encoding:q} --gathered {input.gathered:q} --pretraining {input.pretraining:q}"
        " --scores {input.scores:q}"
        " --comparison {input.comparison:q} --latency {input.latency:q} --logs {input.logs:q}"
        " --multimodality {input.multimodality:q} --guards {input.guards:q}"
        " --judgement {input.judgement:q}"
        " --lengths {input.lengths:q} --exposure {input.exposure:q}"
        " --checkpoints {params.checkpoints:q} --translations {input.translations:q} --benchmarks {params.benchmarks:q}"
        " --dag {input.graph:q} --output {params.directory:q} 2> {log:q}"
