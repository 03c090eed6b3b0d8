# Runs whose jobs go to SLURM (profiles/slurm): what the main process sees to before it submits any.

import getpass
import re
import shutil
import subprocess
import time
from itertools import islice

# Whether this is the process that a cluster's job started, and not the main one.
IN_CLUSTER_JOB = workflow.exec_mode == ExecMode.REMOTE


def slurm_settings():
    """The settings of SLURM's executor, where it is used. They are known when the run starts."""
    found = workflow.executor_settings
    return found if hasattr(found, "status_command") and hasattr(found, "array_jobs") else None


def prepare_cluster():
    """What must hold before jobs are submitted to SLURM; nothing elsewhere."""
    settings = slurm_settings()
    if settings is not None:
        choose_status_command(settings)
        check_arrays(settings)
        end_earlier_jobs()
        record_finished_jobs()


def choose_status_command(settings):
    """squeue where SLURM keeps no accounts.

    The executor would ask sacct, which fails there every time, and wait for ever for jobs that are long done. It would
    ask sacct again where SLURM forgets jobs before squeue is asked, so that is an error.
    """
    if output_of("sacct", "-X", "-n", "--starttime", "now") is not None:
        return
    if settings.status_command == "sacct":
        logger.info("SLURM keeps no accounts here: states of jobs come from squeue.")
        settings.status_command = "squeue"
    remembered = re.search(r"^MinJobAge\s*=\s*(\d+)", output_of("scontrol", "show", "config") or "", re.MULTILINE)
    needed = 3 * settings.init_seconds_before_status_checks
    if remembered and int(remembered[1]) < needed:
        raise WorkflowError(
            f"SLURM keeps no accounts here and forgets jobs after {remembered[1]} seconds, sooner than they are asked for; "
            f"give --slurm-init-seconds-before-status-checks {int(remembered[1]) // 3}"
        )


def check_arrays(settings):
    """The executor waits until all jobs of an array are ready, so the limit of jobs must not hold some of them back."""
    arrays = {name.strip() for name in (settings.array_jobs or "").split(",")}
    seeds = len(run_config.seeds_of(em_student(1))) if run_config.em.iterations else 1
    needed, limit = 2 * len(gather.distill("{scatteritem}")) * seeds, workflow.resource_settings.nodes
    sharded = {
        "distill_shard",
        "decode_beam",
        "label_shard",
        "decode_candidates",
        "select_candidates",
        "decode_iteration",
    }
    if arrays & {"all", *sharded} and needed > limit:
        raise WorkflowError(
            f"{needed // 2} shards in job arrays need at least --jobs {needed}, found {limit}; "
            f"give more, fewer shards (--set-scatter distill=N) or no arrays (--slurm-array-jobs none)"
        )


def end_earlier_jobs():
    """End the jobs of an earlier call of this run that was killed: the new ones go on from their saved state, and no
    two write the same files. The file of the run's lock holds the name that SLURM knows a call's jobs by."""
    handle = held_locks[-1]
    handle.seek(0)
    earlier = handle.read().strip()
    handle.truncate(0)
    submitted = (job for job in workflow.dag.jobs if not job.is_local)
    handle.write("".join(workflow.scheduler.get_executor(job).run_uuid for job in islice(submitted, 1)))
    handle.flush()
    if not earlier or not active_jobs(earlier):
        return
    logger.info("Ending the SLURM jobs of an earlier call of this run.")
    subprocess.run(["scancel", "--name", earlier], check=False)
    end = time.monotonic() + 300
    while active_jobs(earlier):
        if time.monotonic() > end:
            raise WorkflowError(f"SLURM jobs named {earlier} do not end; end them, then give the command again")
        time.sleep(1)


def active_jobs(name):
    """What squeue says of this user's jobs of this name that wait, run or are about to end."""
    lines = output_of("squeue", "--noheader", "--user", getpass.getuser(), "--name", name)
    if lines is None:
        raise WorkflowError("squeue fails; is this a login node of the cluster?")
    return lines


def record_finished_jobs():
    """Record what jobs that ended after their call was killed were made from, or later changes would not re-run them."""
    for job in workflow.dag.jobs:
        if job.output and not workflow.dag.needrun(job) and not workflow.persistence.has_metadata(job):
            workflow.async_run(workflow.persistence.finished(job))


def output_of(*command):
    """What a command prints, or None where it fails or is missing."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def limits_of_job(wildcards, resources):
    """Parameter: the time that a job of a cluster has, and that its state is kept until the main process has its
    results. Snakemake does not track parameters that take the resources as an argument."""
    minutes = ["--time-limit", str(resources.runtime)] if isinstance(resources.get("runtime"), int) else []
    return minutes + kept_state(wildcards, resources)


def kept_state(wildcards, resources):
    """Parameter: the same for jobs that need no clock."""
    return ["--keep-state"] if IN_CLUSTER_JOB else []


def forget_finished_states():
    """Remove the states of finished trainings and shards that jobs of a cluster have left."""
    for mark in Path(R, "state").glob("*/*/finished"):
        shutil.rmtree(mark.parent, ignore_errors=True)
