"""What must hold before a workflow submits jobs to SLURM, what is recorded when it does, and the end of the jobs of an
earlier, killed call."""

from __future__ import annotations

import getpass
import logging
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from retort.errors import RetortError

EXPANDED = frozenset('$`"\\')
"""Characters with a meaning within double quotes of a shell."""


@runtime_checkable
class SlurmSettings(Protocol):
    """The settings of Snakemake's executor for SLURM that matter here."""

    status_command: str
    init_seconds_before_status_checks: int


def choose_status_command(settings: SlurmSettings, logger: logging.Logger) -> None:
    """Set squeue as the command where SLURM keeps no accounts.

    The executor would ask sacct, which fails there every time, and wait for ever for jobs that are long done. It would
    ask sacct again where SLURM forgets jobs before squeue is asked: that raises RetortError.
    """
    if output_of("sacct", "-X", "-n", "--starttime", "now") is not None:
        return
    if settings.status_command == "sacct":
        logger.info("SLURM keeps no accounts here: states of jobs come from squeue.")
        settings.status_command = "squeue"
    remembered = re.search(r"^MinJobAge\s*=\s*(\d+)", output_of("scontrol", "show", "config") or "", re.MULTILINE)
    needed = 3 * settings.init_seconds_before_status_checks
    if remembered and int(remembered[1]) < needed:
        raise RetortError(
            f"SLURM keeps no accounts here and forgets jobs after {remembered[1]} seconds, sooner than they are asked "
            f"for; give --slurm-init-seconds-before-status-checks {int(remembered[1]) // 3}"
        )


def ready_at_once(jobs: Iterable[tuple[str, str | None]]) -> Counter[str]:
    """By rule, at most how many of these jobs are ready at once; each is its rule and the iteration of the EM loop that
    it belongs to, if any. Iterations follow on one another."""
    most: Counter[str] = Counter()
    for (rule, _), number in Counter(jobs).items():
        most[rule] = max(most[rule], number)
    return most


def give_up_arrays(arrays: set[str], ready: Mapping[str, int], jobs: int, logger: logging.Logger) -> None:
    """Empty ``arrays``, the rules whose jobs are submitted as arrays, where one might never become complete.

    ``ready`` has by rule the jobs that can be ready at once; ``jobs`` run at once. The executor keeps the jobs of an
    array back until all have come, so the limit of jobs must not hold one back. What takes up the limit beside them are
    other jobs, and other arrays of which a part has come.
    """
    needed = sum(ready.values())
    if needed > jobs and any(number > 1 and arrays & {"all", rule} for rule, number in ready.items()):
        logger.info(
            f"{needed} jobs can be ready at once, and {jobs} run: shards go to SLURM one by one; "
            f"with --jobs {needed} they would be job arrays."
        )
        arrays.clear()


def check_names(files: Iterable[str]) -> None:
    """Check that these files can be named in a job's command, within which the executor's shell expands what it does in
    double quotes. Raises RetortError."""
    for file in files:
        if EXPANDED & set(file):
            found = " ".join(sorted(EXPANDED & set(file)))
            raise RetortError(f"{file}: a job of SLURM cannot be given a path with {found}; rename it")


def record_submission(persistence: Any, job: Any) -> None:
    """Write Snakemake's record of a job, as far as it is known before its end: without checksums of inputs, which are
    in the record of a job whose end was seen."""
    from snakemake.persistence import RECORD_FORMAT_VERSION, MetadataRecord

    now = time.time()
    record = MetadataRecord(
        rule=job.rule.name,
        input=persistence._input(job),
        log=persistence._log(job),
        shellcmd=job.shellcmd,
        params=persistence._params(job),
        code=persistence._code(job.rule),
        record_format_version=RECORD_FORMAT_VERSION,
        conda_env=persistence._conda_env(job),
        software_stack_hash=persistence._software_stack_hash(job),
        starttime=now,
        endtime=now,
        input_checksums=None,
    )
    for output in job.output:
        persistence._write_record(persistence._get_key(output), record)


def end_jobs(name: str, logger: logging.Logger) -> None:
    """End this user's jobs of this name, and wait until they are gone.

    They are those of an earlier call that was killed: the new ones go on from their saved state, and no two write the
    same files. Raises RetortError for jobs that do not end in five minutes.
    """
    if not name or not active_jobs(name):
        return
    logger.info("Ending the SLURM jobs of an earlier call of this run.")
    subprocess.run(["scancel", "--name", name], check=False)
    end = time.monotonic() + 300
    while active_jobs(name):
        if time.monotonic() > end:
            raise RetortError(f"SLURM jobs named {name} do not end; end them, then give the command again")
        time.sleep(1)


def active_jobs(name: str) -> str:
    """squeue's lines for this user's jobs of this name that wait, run or are about to end."""
    lines = output_of("squeue", "--noheader", "--user", getpass.getuser(), "--name", name)
    if lines is None:
        raise RetortError("squeue fails; is this a login node of the cluster?")
    return lines


def output_of(*command: str) -> str | None:
    """What a command prints, or None where it fails or is missing."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None
