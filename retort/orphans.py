"""Jobs of a killed workflow end themselves, so that the next call does not meet them at work on the same files.

A workflow that is killed outright cannot stop its jobs. It gives them its process id in an environment variable, and
they watch it.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

VARIABLE = "RETORT_WORKFLOW_PID"
EXIT_ORPHANED = 143
_SECONDS_BETWEEN_LOOKS = 0.5


def end_with_workflow() -> None:
    """Watch the workflow that started this process, if one did, and end at once when it is gone.

    Whatever is being written is written to a temporary file, so that ending at any instant leaves nothing half done.
    """
    pid = os.environ.get(VARIABLE, "")
    if pid.isdecimal() and int(pid) > 1:
        threading.Thread(target=_watch, args=(int(pid),), daemon=True).start()


def _watch(pid: int) -> None:
    while is_alive(pid):
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(EXIT_ORPHANED)


def is_alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # A killed process that nobody has waited for still has its number.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return True
