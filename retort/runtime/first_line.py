"""The process that ``retort.runtime.cold_start`` measures: it opens a system and translates lines one by one.

It imports nothing that a program with a system in it would not import.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retort.errors import RetortError
from retort.runtime.opening import open_system

STATUS = Path("/proc/self/status")
"""Where Linux says how much memory a process takes."""


def main() -> None:
    """Read a request in JSON; print the first line's translation, then a line of JSON about the process."""
    try:
        _answer(json.load(sys.stdin))
    except RetortError as error:
        sys.exit(str(error))


def _answer(request: Mapping[str, Any]) -> None:
    teacher = request["teacher"] and Path(request["teacher"])
    system = open_system(
        request["directory"],
        request["search"],
        threads=request["threads"],
        precision=request["precision"],
        teacher=teacher,
    )
    first, *others = request["lines"]
    print(system.translate([first])[0].text, flush=True)
    processor_seconds = time.process_time()
    for line in others:
        system.translate([line])
    print(json.dumps({"processor_seconds": processor_seconds, "peak_bytes": peak_bytes()}), flush=True)


def peak_bytes() -> int | None:
    """Largest resident memory of this process; None where the system does not say."""
    if not STATUS.exists():
        return None
    kilobytes = next(line.split()[1] for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(kilobytes) * 1024


if __name__ == "__main__":
    main()
