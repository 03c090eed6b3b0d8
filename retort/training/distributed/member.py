"""Runs a script as one of several processes that train together, and ends at once when the script has.

About 1 in 20 processes that had used torch.distributed crashed during interpreter shutdown, after all work was written.
os._exit skips the shutdown.
"""

from __future__ import annotations

import os
import runpy
import sys
import traceback


def main() -> None:
    """Exits with the script's status."""
    status: int = 0
    sys.argv = sys.argv[1:]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
