"""Jobs of a killed workflow end themselves, so that the next call does not meet them at work on the same files.

A workflow that is killed outright cannot stop its jobs. It gives them its process id in an environment variable, and
they watch it.
"""

from __future__ import annotations

import os
import threading
import time

from retort.data.files import is_alive

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
