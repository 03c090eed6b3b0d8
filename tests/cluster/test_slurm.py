"""A real SLURM of one node: a run that loses a job's memory, a job, the node, its main process and its time.

The tiny workflow runs once, up to the students, through the profile that users have; what happened is checked after it.
In the copy of the checkout that runs, trainings note each update, and after the 20th they wait as long as a file says
so.
"""

from __future__ import annotations

import contextlib
import copy
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from retort.data.parquet import read_table
from retort.data.tables import ENCODED, TRANSLATIONS
from tests.workflow.checkouts import TINY, Checkout, copy_checkout

pytestmark = pytest.mark.cluster

SCRIPT = Path(__file__).with_name("slurm.sh")
SECONDS_AT_MOST = 900
# A teacher that has learned less is refused by gather_distilled.
UPDATES = {"teacher": 100, "vanilla-raw": 45, "ctc-distilled": 30}
MARK = "        batches = next(work)\n"
PROBE = """        import os, pathlib
        system = self.settings.max_updates
        with open("updates.txt", "a") as handle:
            handle.write(f"{system} {update} {os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}\\n")
        clock = pathlib.Path(f"clock{system}")
        while pathlib.Path("wait").exists() and update > 20 and not clock.exists():
            time.sleep(0.1)
        if clock.exists():  # its time is over
            clock.unlink()
            self.deadline = 0.0
"""
# As on this machine, because what is computed depends on it; and threads of several jobs would wait for each other.
ONE_THREAD = dict.fromkeys(("train_teacher", "train_student", "decode_shard"), 1)
TRAININGS = (("train_teacher", "teacher"), ("train_student", "vanilla-raw"))


def why_not() -> str:
    """Why there is no SLURM to test with, if there is none."""
    if not shutil.which("slurmctld") or not shutil.which("slurmd"):
        return "SLURM is not installed; as root on Debian: tests/cluster/slurm.sh install"
    if os.getuid() != 0:
        return "starting SLURM takes root"
    if shutil.which("sinfo") and subprocess.run(["sinfo"], capture_output=True).returncode == 0:
        return "another SLURM is running; if a test left it, end it with tests/cluster/slurm.sh stop"
    return ""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """SLURM's directory, while it runs."""
    # daemons lie where users' paths need not lead
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin"
    if reason := why_not():
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("slurm")
    done = subprocess.run([SCRIPT, "start", directory], text=True, capture_output=True)
    if done.returncode:
        subprocess.run([SCRIPT, "stop"], check=False)
        pytest.skip(f"SLURM does not start here: {done.stderr[-300:]}")
    yield directory
    subprocess.run(["scancel", "--user", "root"], check=False)
    subprocess.run([SCRIPT, "stop"], check=True)


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + SECONDS_AT_MOST
    while not (found := condition()):
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.2)
    return found


@dataclass
class Run:
    """A run of the workflow on SLURM, and what is known of it."""

    checkout: Checkout
    slurm: Path
    times: list[tuple[str, float]] = field(default_factory=list)

    @property
    def results(self) -> Path:
        return self.checkout.path / "results/tiny"

    def log(self) -> str:
        return (self.checkout.path / "output.txt").read_text()

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "snakemake", "students", "--profile", "slurm", "--configfile", "tiny.yaml"]
        command += ["--slurm-init-seconds-before-status-checks", "3", "--set-scatter", "distill=2"]
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RETORT_MIRROR")}
        with open(self.checkout.path / "output.txt", "ab") as output:
            return subprocess.Popen(
                command, cwd=self.checkout.path, env=environment, stdout=output, stderr=output, start_new_session=True
            )

    def probes(self, system: str) -> list[tuple[int, str, str]]:
        """Every update that the system's training began, in this order, with its process and its GPU."""
        path = self.checkout.path / "updates.txt"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(int(update), pid, gpu) for most, update, pid, gpu in lines if int(most) == UPDATES[system]]

    def starts(self) -> list[int]:
        """How many processes of the teacher's and of the student's training have come to where they wait."""
        return [len({pid for update, pid, _ in self.probes(system) if update > 20}) for _, system in TRAININGS]

    def training_log(self, system: str) -> str:
        rule = "train_teacher" if system == "teacher" else "train_student"
        path = self.results / f"logs/{rule}/{system}/seed1.log"
        return path.read_text() if path.exists() else ""

    def happened(self, what: str) -> None:
        self.times.append((what, time.monotonic()))


def jobs(state: str = "all") -> list[tuple[str, str]]:
    """SLURM's jobs in this state: number and rule, array tasks one by one."""
    command = ["squeue", "--noheader", "--array", "--states", state, "--format", "%i|%k"]
    lines = subprocess.run(command, check=True, text=True, capture_output=True).stdout.splitlines()
    return [(line.partition("|")[0], re.sub(r"^rule_|_wildcards_.*$", "", line.partition("|")[2])) for line in lines]


def running(rule: str) -> str | None:
    return next((number for number, name in jobs("running") if name == rule), None)


def start_at_once(rule: str) -> None:
    """SLURM lets requeued jobs wait two minutes; not here."""
    number = wait_until(lambda: next((n for n, name in jobs("pending") if name == rule), None), f"{rule} is requeued")
    subprocess.run(["scontrol", "update", f"jobid={number}", "starttime=now"], check=False)


def configure(checkout: Checkout) -> None:
    config = copy.deepcopy(TINY)
    config["training"]["checkpoint_minutes"] = 1e-9
    config["teacher"]["training"] = {"max_updates": UPDATES["teacher"]}
    for name in ("vanilla-raw", "ctc-distilled"):
        config["students"][name]["training"] = {"max_updates": UPDATES[name]}
    checkout.configure(config, "tiny.yaml")
    path = checkout.path / "retort/training/loop.py"
    source = path.read_text()
    assert source.count(MARK) == 1
    path.write_text(source.replace(MARK, MARK + PROBE))
    path = checkout.path / "profiles/slurm/config.yaml"
    profile = yaml.safe_load(path.read_text())
    profile["set-threads"] |= ONE_THREAD
    profile["set-resources"]["prepare_corpus"]["mem_mb"] = "60 * 30 ** (attempt - 1)"
    path.write_text(yaml.safe_dump(profile))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[Path]]:
    """The results of the same run on this machine, which goes on beside the other one."""
    checkout = copy_checkout(tmp_path_factory.mktemp("local") / "checkout")
    configure(checkout)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(checkout.snakemake, "students", "--configfile", "tiny.yaml")

        def results() -> Path:
            done.result()
            return checkout.path / "results/tiny"

        yield pool.submit(results)


@pytest.fixture(scope="module")
def run(slurm: Path, undisturbed: Future[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The run, after all that happened to it."""
    result = Run(copy_checkout(tmp_path_factory.mktemp("cluster") / "checkout"), slurm)
    configure(result.checkout)
    main = result.start()
    try:
        main = disturb(result, main)
        assert main.wait(timeout=SECONDS_AT_MOST) == 0
        result.happened("end")
    except BaseException:
        print(result.log())
        raise
    finally:
        if main.poll() is None:
            os.killpg(main.pid, signal.SIGKILL)
            main.wait()
        print([(what, round(at - result.times[0][1])) for what, at in result.times])
    yield result


def disturb(run: Run, main: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """Let everything happen to the run; returns its main process of the end."""
    wait = run.checkout.path / "wait"
    wait.touch()
    run.happened("start")
    come(run, main, 1, 1)

    run.happened("requeue")
    subprocess.run(["scontrol", "requeue", str(running("train_teacher"))], check=True)
    start_at_once("train_teacher")
    come(run, main, 2, 1)

    run.happened("node lost")
    lose_node(run)
    for rule, _ in TRAININGS:
        start_at_once(rule)
    come(run, main, 3, 2)

    run.happened("main process killed")
    os.killpg(main.pid, signal.SIGKILL)
    main.wait()
    assert all(running(rule) for rule, _ in TRAININGS), "SLURM's jobs go on without it"
    main = run.start()
    come(run, main, 4, 3)

    run.happened("time over")
    # the teacher learns nothing of its new limit and is killed by SLURM; the student stops by its own clock
    subprocess.run(["scontrol", "update", f"jobid={running('train_teacher')}", "timelimit=1"], check=True)
    (run.checkout.path / f"clock{UPDATES['vanilla-raw']}").touch()
    come(run, main, 5, 4)
    run.happened("time was over")
    wait.unlink()
    return main


def come(run: Run, main: subprocess.Popen[bytes], teacher: int, student: int) -> None:
    """Wait until so many processes of the two trainings that run side by side have come to where they wait."""

    def there() -> bool:
        assert main.poll() is None, "Snakemake has ended"
        return run.starts() == [teacher, student]

    wait_until(there, f"{teacher} and {student} starts, found {run.starts()}")


def lose_node(run: Run) -> None:
    """Kill all of the node's processes, as a power cut does, and give it back when SLURM has noticed."""
    daemon = int((run.slurm / "slurmd.pid").read_text())
    steps = subprocess.run(["pgrep", "-x", "slurmstepd"], text=True, capture_output=True).stdout.split()
    sessions = [pid for step in steps for pid in descendants(int(step))]
    for pid in [daemon, *map(int, steps), *sessions]:
        kill(pid)
    state = ["sinfo", "--noheader", "--format", "%T"]
    wait_until(lambda: "down" in subprocess.run(state, text=True, capture_output=True).stdout, "the node is lost")
    subprocess.run(["slurmd"], check=True)


def descendants(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], text=True, capture_output=True).stdout.split()
    return [other for child in found for other in (int(child), *descendants(int(child)))]


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_the_results_are_those_of_an_undisturbed_run(run: Run, undisturbed: Future[Path]) -> None:
    expected = undisturbed.result()
    weights = sorted(path.relative_to(expected) for path in expected.rglob("model.safetensors"))
    assert len(weights) == len(UPDATES)
    for path in weights:
        assert (run.results / path).read_bytes() == (expected / path).read_bytes(), path
    for name, table in {"translations": TRANSLATIONS, "encoded": ENCODED}.items():
        path = Path("distilled") / f"{name}.parquet"
        assert read_table(run.results / path, table).equals(read_table(expected / path, table))


def test_no_update_is_computed_twice(run: Run) -> None:
    for system, most in UPDATES.items():
        begun = Counter(update for update, *_ in run.probes(system))
        assert set(begun) == set(range(1, most + 1))
        # those that waited before they were computed were begun by each process
        assert {update for update, times in begun.items() if times > 1} <= {21, 22}, system
    assert run.starts() == [5, 4]


def test_every_job_ran_as_often_as_it_had_to(run: Run) -> None:
    counts = Counter(rule for _, rule in jobs())
    once = {"train_vocabulary": 1, "encode_corpus": 1, "decode_shard": 2, "gather_distilled": 1}
    assert {rule: counts[rule] for rule in once} == once
    assert counts["prepare_corpus"] == 2
    assert len({number.partition("_")[0] for number, rule in jobs() if rule == "decode_shard"}) == 1, "one array"


def test_too_little_memory_is_followed_by_more(run: Run) -> None:
    numbers = [number for number, rule in jobs() if rule == "prepare_corpus"]
    shown = [subprocess.run(["scontrol", "show", "job", n], text=True, capture_output=True).stdout for n in numbers]
    states = {int(re.search(r"mem=(\d+)M", text)[1]): re.search(r"JobState=(\w+)", text)[1] for text in shown}  # type: ignore[index]
    assert states[1800] == "COMPLETED"
    assert states[60] != "COMPLETED"


def test_each_training_had_a_gpu_of_its_own(run: Run) -> None:
    first = [run.probes(system)[0][2] for _, system in TRAININGS]
    assert sorted(first) == ["0", "1"]
    assert {gpu for system in UPDATES for *_, gpu in run.probes(system)} <= {"0", "1"}


def test_slurm_s_clock_and_the_job_s_own_are_both_survived(run: Run) -> None:
    assert "failed, SLURM status is: 'TIMEOUT'" in run.log()
    assert "going on from update" in run.training_log("teacher")
    assert "out of time after update" in run.log(), "the log of the failed job is shown"


def test_states_are_left_by_nobody(run: Run) -> None:
    assert not [path for path in (run.results / "state").rglob("*") if path.is_file()]
    assert "Ending the SLURM jobs of an earlier call" in run.log()
    assert "SLURM keeps no accounts here" in run.log()


def test_nothing_is_left_to_do(run: Run) -> None:
    output = run.checkout.snakemake("students", "--dry-run", "--configfile", "tiny.yaml")
    assert "Nothing to be done" in output
