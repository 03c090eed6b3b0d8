# Progress: the jobs that a call is to do, kept for the view of them and for retort status.

from retort.workflow.progress import keep_done


def record_progress():
    """Keep the jobs of this call, and tell the logger of retort run where they are."""
    parallel = workflow.resource_settings.cores or workflow.resource_settings.nodes or 1
    jobs = [Job.of(job) for job in jobs_to_do() if job.output]
    Progress(time.time(), parallel, jobs).write(Path(R))
    logger.info("", extra={"retort_run": R})


def print_end():
    """The verdict of a run that has come to its report, and before it what is left of interrupted work."""
    if any(job.rule.name == "build_report" for job in workflow.dag.jobs):
        left, verdict = abandoned(Path(R, "state")), Path(R, "report/verdict.txt").read_text().strip()
        for text in filter(None, (left, verdict)):
            logger.info(f"\n{text}", extra={"retort_text": True})
