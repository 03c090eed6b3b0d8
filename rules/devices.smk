# GPUs of this machine: one job per GPU at a time. On a cluster, the scheduler assigns them.

from retort.workflow.devices import local_devices


def gpus_of_job(wildcards):
    """Resource: a GPU, where there is one."""
    return 1 if DEVICES else 0


def processes_of_job(wildcards, resources):
    """Parameter: a process for each GPU of a training that was given several. Snakemake does not track parameters that
    take the resources as an argument: how many there are re-runs nothing."""
    gpus = resources.get("gpu")
    if not isinstance(gpus, int) or gpus < 2:
        return []
    if reason := run_config.trained[wildcards.system].unshareable(gpus):
        raise WorkflowError(f"{wildcards.system}: {reason}")
    return ["--processes", str(gpus)]


runs_here = workflow.resource_settings.nodes is None and workflow.exec_mode == ExecMode.DEFAULT
DEVICES = local_devices(os.environ) if runs_here else []
if DEVICES:
    if "gpu" not in workflow.global_resources:
        workflow.register_resource("gpu", len(DEVICES))
    os.environ.update(RETORT_DEVICES=",".join(DEVICES))
