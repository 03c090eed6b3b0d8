"""Jobs stop when their workflow does, so that the next call does not meet them at work on the same files.

A workflow that is killed outright cannot stop its jobs. It gives them its process id in an environment variable, and
they watch it. A workflow that is interrupted writes a file, whose name they also know: they get SIGTERM, so that a
training saves its state instead of running to its end.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from retort.data.files import is_alive

VARIABLE = "RETORT_WORKFLOW_PID"
STOP_VARIABLE = "RETORT_WORKFLOW_STOP"
"""Name of the file that asks jobs to stop."""
EXIT_ORPHANED = 143
_SECONDS_BETWEEN_LOOKS = 0.5


def end_with_workflow() -> None:
    """Watch the workflow that started this process, if one did; end at once when it is gone, and by SIGTERM when it
    asks its jobs to stop.

    Whatever is being written is written to a temporary file, so that ending at any instant leaves nothing half done.
    """
    pid = os.environ.get(VARIABLE, "")
    if pid.isdecimal() and int(pid) >= 1:
        threading.Thread(target=_watch, args=(int(pid), os.environ.get(STOP_VARIABLE)), daemon=True).start()


def stop_jobs_on_signals(path: Path | str) -> None:
    """For the workflow's main process: SIGINT and SIGTERM first ask its jobs to stop, by the file at ``path``.

    Then they do what they did before. One that is ignored, as in the background of a script, stays so.
    """
    path = Path(path)
    path.unlink(missing_ok=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        before = signal.getsignal(number)
        if before == signal.SIG_IGN:
            continue

        def ask(number: int, frame: Any, before: Any = before) -> None:
            path.touch()
            if callable(before):
                before(number, frame)
            elif before == signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)

        signal.signal(number, ask)


def _watch(pid: int, stop: str | None) -> None:
    while is_alive(pid):
        if stop and os.path.exists(stop):
            os.kill(os.getpid(), signal.SIGTERM)
            stop = None
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(EXIT_ORPHANED)
