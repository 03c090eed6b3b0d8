"""Kills a whole run at random moments until it is done, and compares it with an undisturbed one.

    PYTHONPATH=. python benchmarks/kill_campaign.py --directory /tmp/campaign --kills 100

A small run with two iterations of the EM loop gets SIGKILL, SIGTERM or SIGINT, sent to Snakemake, to one of its jobs or
to the whole group, and is started again by the same command, until it is done. Then

- every result must be that of the undisturbed run (times and logs aside), and no other file may be there;
- nothing may be locked, marked as incomplete, or still running, and a dry run may have nothing to do;
- after a change of one key of the configuration, a dry run must plan the jobs that it plans for the undisturbed run.

Runs are repeated until there were enough kills or --seconds are over. The same --directory goes on where it was, and
its kills.jsonl keeps every kill. Prints a line per event, then one JSON line of all calls; status 1 if anything failed.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retort.workflow.progress import NAME as PROGRESS
from retort.workflow.why import RESULTS
from tests.workflow.checkouts import PLUGINS, TINY_EM, Checkout, copy_checkout, jobs

CONFIG: dict[str, Any] = copy.deepcopy(TINY_EM) | {
    "name": "killed",
    "seeds": [1],
    "students": {"ctc": {"objective": {"name": "ctc"}, "data": "distilled"}},
    "latency": {"sentences": 4, "batch_sizes": [1, 4], "warmup": 1, "engines": ["torch"]},
}
CONFIG["training"]["checkpoint_minutes"] = 1e-3
RUN = Path(RESULTS) / CONFIG["name"]
CHANGES: dict[str, Any] = {
    "vocabulary.size": 121,
    "teacher.training.max_updates": 101,
    "distillation.search.beam_size": 5,
    "em.candidates": 4,
    "em.teacher.training.max_updates": 11,
    "em.student.searches.argmax.length_beam": 2,
    "evaluation.metrics": ["BLEU", "chrF"],
}
"""Values of keys that different parts of the run depend on."""
TARGETS = {"snakemake": 4, "job": 4, "group": 4}
SIGNALS = {signal.SIGKILL: 5, signal.SIGTERM: 3, signal.SIGINT: 3}
"""What is killed and how, with weights."""
STARTING, WORKING, AFTERWARDS = (0.2, 5.0), (0.0, 14.0), (2.0, 15.0)
"""Seconds until a kill: from the start, or from the first job; and until the next one after the kill of a job."""
HANGS = 600
"""Seconds without any job after which a run hangs; planning takes minutes of a busy machine."""
TIMES = ["tokens_per_second", "processor_seconds"]
"""Metrics of a training's log that are of the clock."""
TROUBLE = ("LockException", "IncompleteFiles", "Traceback", "ProtectedOutput", "MissingOutput", "corrupted metadata")


def command(*options: str) -> list[str]:
    snakemake = [sys.executable, "-m", "snakemake", "--logger=rules", "--cores", "2", "--set-scatter", "distill=2"]
    return [*snakemake, *options]


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RETORT_MIRROR")}
    return kept | {"PYTHONPATH": str(PLUGINS), "OMP_NUM_THREADS": "1"}


def start(checkout: Checkout, output: Path) -> subprocess.Popen[bytes]:
    """The run in a session of its own, in which Ctrl-C works."""
    with open(output, "wb") as log:
        return subprocess.Popen(
            command("--configfile", "run.yaml"),
            cwd=checkout.path, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip


def processes_of(session: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getsid(process.pid) == session and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found


def scripts_of(session: int) -> dict[int, str]:
    """The jobs that run: their process and script."""
    scripts = {}
    for process in processes_of(session):
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        script = next((Path(part).stem for part in line[:2] if "workflow_scripts" in part), None)
        if script:
            scripts[process.pid] = script
    return scripts


class Campaign:
    """Kills, and what came of them."""

    def __init__(self, directory: Path, kills: int, seconds: float, seed: int) -> None:
        self.directory, self.wanted, self.end = directory, kills, time.monotonic() + seconds
        self.log = directory / "kills.jsonl"
        self.output = directory / "output.txt"
        self.rng = random.Random(f"{seed} {len(self.events('kill'))}")

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Everything of this kind that this directory has seen."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    def note(self, event: str, **facts: Any) -> None:
        with open(self.log, "a") as log:
            log.write(json.dumps({"event": event, **facts}) + "\n")
        print(time.strftime("%H:%M:%S"), event, facts, flush=True)

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.end or len(self.events("kill")) >= self.wanted

    def undisturbed(self) -> Checkout:
        """The run that nothing kills."""
        path = self.directory / "undisturbed"
        if not (path / "done").exists():
            shutil.rmtree(path, ignore_errors=True)
            copy_checkout(path).configure(CONFIG, "run.yaml")
            begun = time.monotonic()
            if start(Checkout(path), self.output).wait() != 0:
                raise SystemExit(f"the undisturbed run failed: {self.output.read_text()[-2000:]}")
            (path / "done").touch()
            self.note("undisturbed", seconds=round(time.monotonic() - begun), files=len(digests(path / RUN)))
        return Checkout(path)

    def cycle(self, undisturbed: Checkout) -> bool:
        """One whole run under kills and what it left; false if time was over before its end."""
        checkout = Checkout(self.directory / "killed")
        if not checkout.path.exists():
            # not from here, where the code may have changed
            no_results = shutil.ignore_patterns(RESULTS, ".snakemake", "done")
            shutil.copytree(undisturbed.path, checkout.path, symlinks=True, ignore=no_results)
        failures = 0
        while True:
            if time.monotonic() > self.end:
                return False
            process = start(checkout, self.output)
            killed = not self.is_over and self.kill(process)
            status = self.wait(process)
            if status == 0:
                break
            failures = 0 if killed else failures + 1
            said = self.output.read_text(errors="replace")
            # a job that is interrupted before its script has begun
            said = said.replace("Traceback", "") if "KeyboardInterrupt" in said else said
            if trouble := [word for word in TROUBLE if word in said]:
                self.note("trouble", words=trouble, end=said[-500:])
            if failures > 3:
                self.note("stuck", end=said[-500:])
                return False
        time.sleep(1.5)
        self.compare(checkout, undisturbed, process.pid)
        shutil.rmtree(checkout.path)
        return True

    def kill(self, process: subprocess.Popen[bytes]) -> bool:
        """Send a signal at some moment; false if the process ended before."""
        early = self.rng.random() < 0.15
        waited = self.rng.uniform(*(STARTING if early else WORKING))
        begun = None if not early else time.monotonic()
        while begun is None or time.monotonic() < begun + waited:
            if process.poll() is not None:
                return False
            if begun is None and scripts_of(process.pid):
                begun = time.monotonic()
            time.sleep(0.1)
        target = self.rng.choices(list(TARGETS), list(TARGETS.values()))[0]
        number = self.rng.choices(list(SIGNALS), list(SIGNALS.values()))[0]
        scripts = scripts_of(process.pid)
        if target == "job" and not scripts:
            target = "snakemake"
        self.send(process, target, number=number, scripts=scripts)
        if target == "job":
            # the other jobs go on for a while
            try:
                process.wait(self.rng.uniform(*AFTERWARDS))
            except subprocess.TimeoutExpired:
                self.send(process, "group", number=signal.SIGKILL, scripts=scripts_of(process.pid))
        return True

    def send(self, process: subprocess.Popen[bytes], target: str, number: int, scripts: dict[int, str]) -> None:
        try:
            if target == "group":
                os.killpg(process.pid, number)
            else:
                os.kill(self.rng.choice(sorted(scripts)) if target == "job" else process.pid, number)
        except ProcessLookupError:
            return
        self.note("kill", target=target, signal=signal.Signals(number).name, during=sorted(scripts.values()))

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        """The status of a run, however long it takes while nothing kills it."""
        worked = time.monotonic()
        while process.poll() is None:
            if scripts_of(process.pid):
                worked = time.monotonic()
            elif time.monotonic() - worked > HANGS:
                self.note("hang", processes=[p.pid for p in processes_of(process.pid)])
                os.killpg(process.pid, signal.SIGKILL)
            if time.monotonic() > self.end + HANGS:
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(0.2)
        return process.wait()

    def compare(self, checkout: Checkout, undisturbed: Checkout, session: int) -> None:
        found, expected = digests(checkout.path / RUN), digests(undisturbed.path / RUN)
        facts: dict[str, Any] = {
            "lost": sorted(name for name in expected if found.get(name) != expected[name]),
            "extra": sorted(found.keys() - expected.keys()),
            "left": leftovers(checkout.path),
            "running": [process.pid for process in processes_of(session)],
            "again": sorted(planned(checkout, {})),
        }
        facts["stale"] = {}
        for key, value in CHANGES.items():
            wanted, got = planned(undisturbed, {key: value}), planned(checkout, {key: value})
            if wanted != got or not wanted:
                facts["stale"][key] = sorted(wanted ^ got) or "nothing"
        self.note("compared", files=len(expected), **facts)


def planned(checkout: Checkout, changes: dict[str, Any]) -> set[str]:
    """The jobs of a dry run with these values of keys."""
    config = copy.deepcopy(CONFIG)
    for key, value in changes.items():
        section = config
        *path, last = key.split(".")
        for name in path:
            section = section[name]
        section[last] = value
    options = command("--dry-run", "--configfile", checkout.configure(config, "changed.yaml"))
    done = subprocess.run(options, cwd=checkout.path, env=environment(), text=True, capture_output=True)
    return jobs(done.stdout + done.stderr) if done.returncode == 0 else {f"failed: {done.stderr[-500:]}"}


def digests(run: Path) -> dict[str, str]:
    """A digest of each result, without what depends on the clock."""
    files = sorted(path for path in run.rglob("*") if path.is_file())
    named = {str(path.relative_to(run)): path for path in files}
    return {
        name: digest(name, path)
        for name, path in named.items()
        if not name.startswith(("logs/", "benchmarks/", PROGRESS)) and "/events/" not in name
    }


def digest(name: str, path: Path) -> str:
    if name.endswith((".html", ".png", ".csv", "verdict.txt")):
        return "drawn from tables" if path.stat().st_size else "empty"
    if name.endswith(".dot"):
        # Snakemake writes the edges in any order
        return hashlib.sha256("\n".join(sorted(path.read_text().splitlines())).encode()).hexdigest()
    if name.endswith("model.json"):
        description = json.loads(path.read_text())
        del description["train_seconds"]
        return hashlib.sha256(json.dumps(description).encode()).hexdigest()
    if name.endswith(".parquet"):
        table = pq.read_table(path)
        facts = table.schema.metadata[b"retort"]
        if name.endswith("training.parquet"):
            table = table.filter(pc.invert(pc.is_in(table["metric"], pa.array(TIMES)))).drop_columns(["seconds"])
        if name.startswith("latency/"):
            timed = [field.name for field in table.schema if pa.types.is_floating(field.type)]
            table, facts = table.drop_columns(timed), b""
        return hashlib.sha256(repr(table.to_pylist()).encode() + facts).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def leftovers(checkout: Path) -> list[str]:
    """Half-written files, states, locks, and marks of incomplete outputs."""
    run, records = checkout / RUN, checkout / ".snakemake"
    left = [path for path in run.rglob(".*") if path.name != ".snakemake_timestamp"]
    for directory in (run / "state", records / "locks", records / "incomplete"):
        left += [path for path in directory.rglob("*") if path.is_file()]
    return sorted(str(path.relative_to(checkout)) for path in left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True, help="kept between calls")
    parser.add_argument("--kills", type=int, default=100, help="of all calls (default 100)")
    parser.add_argument("--seconds", type=float, default=1e9, help="time of this call; a run is not cut short for it")
    parser.add_argument("--seed", type=int, default=1, help="of the choice of moments, targets and signals")
    args = parser.parse_args()
    args.directory.mkdir(parents=True, exist_ok=True)
    campaign = Campaign(args.directory.resolve(), args.kills, seconds=args.seconds, seed=args.seed)
    undisturbed = campaign.undisturbed()
    while not campaign.is_over or (campaign.directory / "killed").exists():
        if not campaign.cycle(undisturbed):
            break
    compared = campaign.events("compared")
    failed = [e for e in compared if any(e[key] for key in ("lost", "extra", "left", "running", "again", "stale"))]
    kinds = Counter(f"{kill['target']} {kill['signal']}" for kill in campaign.events("kill"))
    summary = {
        "kills": sum(kinds.values()), "runs": len(compared), "failed_runs": len(failed),
        "lost": sum(len(e["lost"]) for e in compared), "stale": sum(len(e["stale"]) for e in compared),
        "left": sum(len(e["left"]) for e in compared), "hangs": len(campaign.events("hang")),
        "stuck": len(campaign.events("stuck")), "trouble": len(campaign.events("trouble")), "kinds": dict(kinds),
    }  # fmt: skip
    print(json.dumps(summary))
    sys.exit(1 if failed or summary["stuck"] or summary["hangs"] else 0)


if __name__ == "__main__":
    main()
