# Latency: all systems in one job, interleaved, alone on the machine.


rule measure_latency:
    input:
        checkpoints=of_job(plan.timed_checkpoints),
        text=of_job(plan.shortlist_text),
        ngrams=of_job(plan.ngrams.files),
        tuned=of_job(plan.timed_tuned_files),
        external=of_job(plan.timed_external_files),
        tests=TESTS[0],
    output:
        latency=f"{R}/latency/latency.parquet",
    log:
        f"{R}/logs/measure_latency/latency.log",
    benchmark:
        f"{R}/benchmarks/measure_latency/latency.tsv"
    conda:
        teacher_environment
    # All of the machine, so that no other job disturbs the clock.
    threads: workflow.resource_settings.cores or 1
    resources:
        gpu=gpus_of_job,
    params:
        script=script("measure_latency"),
        code=code("measure_latency", modules.latency),
        contents=contents_of(plan.timed_checkpoints, plan.ngrams.files, plan.timed_external_files),
        systems=of_job(options.timed_systems),
        latency=section("latency"),
        asked=of_job(options.timed_about_tests),
        external=lambda wildcards, output: options.timed_external(),
    message:
        "Time all systems"
    shell:
        "python {params.script:q} --systems {params.systems:q} {params.external:q} --latency {params.latency:q}"
        " --tests {input.tests:q} --training-text {input.text:q} --threads {threads} --output {output.latency:q} 2> {log:q}"
