# Runs whose jobs go to SLURM (profiles/slurm): what the main process sees to before it submits any.

from collections import Counter

from retort.data.files import write_bytes
from retort.workflow.cluster import (
    SlurmSettings,
    check_names,
    choose_status_command,
    end_jobs,
    give_up_arrays,
    ready_at_once,
    record_submission,
)


def prepare_cluster():
    """What must hold before jobs are submitted to SLURM, whose settings are known when the run starts; nothing
    elsewhere."""
    settings = workflow.executor_settings
    if isinstance(settings, SlurmSettings):
        choose_status_command(settings, logger)
        if executor := cluster_executor():
            give_up_arrays(executor.array_jobs, jobs_ready_at_once(), workflow.resource_settings.nodes, logger)
        check_names([os.getcwd(), str(ROOT), *chain.from_iterable(job.input for job in jobs_to_do())])
        end_jobs(run_lock.replace_note(name_of_jobs()), logger)
        give_resolved_configuration()
        record_finished_jobs()
        record_submitted_jobs()


def jobs_ready_at_once():
    """At most how many jobs of each rule are ready for the cluster at once."""
    ready = ready_at_once(
        (job.rule.name, job.wildcards_dict.get("iteration")) for job in jobs_to_do() if not job.is_local
    )
    if "gather_guards" in ready:  # behind that checkpoint come its iteration's text and the next candidates
        shards = len(run_config.seeds_of(em_student(1))) * len(gather.distill("{scatteritem}"))
        ready |= Counter(decode_iteration=shards, decode_candidates=shards)
    return ready


def cluster_executor():
    """What submits this call's jobs; None if there are none."""
    submitted = next((job for job in workflow.dag.jobs if not job.is_local), None)
    return submitted and workflow.scheduler.get_executor(submitted)


def name_of_jobs():
    """The name that SLURM knows this call's jobs by; empty if there are none."""
    executor = cluster_executor()
    return executor.run_uuid if executor else ""


def give_resolved_configuration():
    """Have jobs read the configuration of now when they start, whatever is edited while they wait. Keys of --config are
    in it: the shell that submits a job would expand them."""
    text = to_json(run_config)
    path = Path(".snakemake", f"{run_config.name}.{value_digest(text)[:16]}.json").absolute()
    write_bytes(path, text.encode())
    workflow.config_settings.configfiles, workflow.config_settings.config_args = [path], []


def record_submitted_jobs():
    """Record what a job is made from when it is submitted. It may end after this call was killed, and keys and code be
    changed by then."""
    started = workflow.persistence.started

    def record(job, external_jobid=None):
        if external_jobid:
            record_submission(workflow.persistence, job)
        started(job, external_jobid)

    workflow.persistence.started = record


def record_finished_jobs():
    """Complete the records of jobs that ended after their call was killed, and that nothing has changed for since."""
    for job in workflow.dag.jobs:
        records = map(workflow.persistence.metadata, job.output)
        if not workflow.dag.needrun(job) and any(record and record.input_checksums is None for record in records):
            workflow.async_run(workflow.persistence.finished(job))


def limits_of_job(wildcards, resources):
    """Parameter: the time that a job of a cluster has. Snakemake does not track parameters that take the resources as
    an argument."""
    return ["--time-limit", str(resources.runtime)] if isinstance(resources.get("runtime"), int) else []
