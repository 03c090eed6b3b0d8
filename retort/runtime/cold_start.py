"""How long a system takes from the start of a process to its first line of output, and how much memory it needs.

    python -m retort.runtime.cold_start --model ctc < in.txt

Every run is a fresh process. Files that were read before come from the operating system's cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retort.data.lines import decoded_line
from retort.errors import RetortError
from retort.runtime import first_line
from retort.runtime.asked import check_counts, check_opening

LINES = 20
"""Lines that a process translates at most: its memory hardly grows after some."""


@dataclass(frozen=True)
class ColdStart:
    """Medians of several processes."""

    cold_start_seconds: float
    """From the start of the process to its first line of output."""
    cold_start_processor_seconds: float
    """The same as the process spent it on processors."""
    peak_bytes: int | None
    """Largest resident memory while lines are translated one by one; None where the operating system does not say."""


def cold_start(
    directory: Path,
    lines: Sequence[str],
    runs: int,
    search: Mapping[str, Any] | None = None,
    threads: int = 1,
    precision: str | None = None,
    teacher: Path | None = None,
) -> ColdStart:
    """Open a system, as ``open_system`` does, in ``runs`` processes, one after the other.

    Raises RetortError if none of the lines has text, or if a process fails.
    """
    filled = [line for line in lines if line.strip()][:LINES]
    if not filled:
        raise RetortError(f"{directory}: there is no line with text to start it with; give at least one")
    request = {
        "directory": str(directory),
        "search": dict(search) if search else None,
        "threads": threads,
        "precision": precision,
        "teacher": str(teacher) if teacher else None,
        "lines": filled,
    }
    measured = [_run(directory, json.dumps(request)) for _ in range(runs)]
    peaks = [facts["peak_bytes"] for _, facts in measured if facts["peak_bytes"] is not None]
    return ColdStart(
        cold_start_seconds=statistics.median(seconds for seconds, _ in measured),
        cold_start_processor_seconds=statistics.median(facts["processor_seconds"] for _, facts in measured),
        peak_bytes=int(statistics.median(peaks)) if peaks else None,
    )


def _run(directory: Path, request: str) -> tuple[float, dict[str, Any]]:
    """Seconds until the first line of one process, and what it says about itself."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    # files, so that nobody waits for a full or broken pipe
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as given,
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
    ):
        given.write(request)
        given.seek(0)
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", first_line.__name__],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=errors,
            # outputs are of any script, whatever the locale
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"},
            text=True,
            encoding="utf-8",
        ) as process:
            assert process.stdout
            process.stdout.readline()
            seconds = time.perf_counter() - start
            rest = process.stdout.read()
        if process.returncode:
            errors.seek(0)
            raise RetortError(
                f"{directory}: a new process that opens it ended with status {process.returncode}: "
                f"{errors.read().strip()}"
            )
    return seconds, json.loads(rest)


def _standard_input() -> list[str]:
    """Its lines, as ``retort translate`` reads them."""
    if sys.stdin is None:
        raise RetortError("standard input is closed; give the lines of text to translate")
    lines = sys.stdin.buffer.read().split(b"\n")
    return [decoded_line(line, "standard input", number, strip=True) for number, line in enumerate(lines, start=1)]


def main() -> None:
    """Print the figures of one system as a line of JSON."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=Path, required=True, help="directory of a checkpoint or exported system")
    arguments.add_argument("--runs", type=int, default=5, help="processes (default 5)")
    arguments.add_argument("--threads", type=int, default=1)
    args = arguments.parse_args()
    try:
        check_opening(args.model, search=None, precision=None, device=None, teacher=None, threads=args.threads)
        check_counts(runs=args.runs)
        measured = cold_start(args.model, _standard_input(), args.runs, threads=args.threads)
    except RetortError as error:
        arguments.exit(2, f"{error}\n")
    print(json.dumps(asdict(measured)))


if __name__ == "__main__":
    main()
