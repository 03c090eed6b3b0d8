# Latency: all systems in one job, interleaved, alone on the machine.


rule measure_latency:
    input:
        checkpoints=timed_checkpoints,
        tests=TESTS[0],
    output:
        latency=f"{R}/latency/latency.parquet",
    log:
        f"{R}/logs/measure_latency/latency.log",
    benchmark:
        f"{R}/benchmarks/measure_latency/latency.tsv"
    conda:
        "../envs/retort.yaml"
    # All of the machine, so that no other job disturbs the clock.
    threads: workflow.resource_settings.cores or 1
    resources:
        gpu=gpus_of_job,
    params:
        script=script("measure_latency"),
        code=latency_code,
        systems=timed_systems,
        latency=section("latency"),
    shell:
        "python {params.script:q} --systems {params.systems:q} --latency {params.latency:q} --tests {input.tests:q}"
        " --threads {threads} --output {output.latency:q} 2> {log:q}"
