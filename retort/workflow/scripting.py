"""What every workflow script shares: argument types for sections of the configuration, logging, and the exit on errors.

A script is ``parser() -> ArgumentParser``, ``main(args) -> None`` and ``run_script(parser(), main)`` under its
``__main__`` guard.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from retort.config.addresses import redacted
from retort.data.files import text_or_file
from retort.data.streams import complain, replace_closed_streams
from retort.errors import Interrupted, OutOfTime, RetortError, refusal
from retort.workflow.watchdog import end_with_workflow

EXIT_BAD_INPUT = 2
EXIT_OUT_OF_TIME = 75
"""As EX_TEMPFAIL of sysexits.h: not finished, try again."""
EXIT_INTERRUPTED = 130


def section(model: Any) -> Callable[[str], Any]:
    """An argparse ``type`` that reads a section of the configuration.

    ``model`` is a pydantic model, or any type pydantic validates (a union, a list of models). The text on the command
    line is JSON, or ``@file.json`` for the content of a file. All problems are reported at once, each with its path.
    """
    adapter = TypeAdapter(model)

    def read(text: str) -> Any:
        where = f"{text[1:]}: " if text.startswith("@") else ""
        try:
            return adapter.validate_json(text_or_file(text))
        except RetortError as error:
            raise argparse.ArgumentTypeError(f"{where}{error}") from None
        except ValidationError as error:
            problems = [
                f"{'.'.join(str(part) for part in problem['loc']) or 'value'}: {problem['msg']}"
                + ("" if isinstance(problem["input"], dict | list) else f", found {redacted(repr(problem['input']))}")
                for problem in error.errors()
            ]
            raise argparse.ArgumentTypeError(where + "; ".join(problems)) from None

    read.__name__ = getattr(model, "__name__", "section")
    return read


def start_logging() -> None:
    """Log plain lines, each with its time, to stderr."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S", force=True
    )
    logging.captureWarnings(True)


def deadline(minutes: float | None) -> float:
    """The reading of ``time.monotonic`` by which a job with so many minutes should have stopped by itself.

    A tenth of its time, at most five minutes, is left for what came before this process and for the last save.
    """
    if minutes is None:
        return math.inf
    return time.monotonic() - time_since_start() + 60 * minutes - min(300.0, 6 * minutes)


def time_since_start() -> float:
    """Seconds that this process has run; 0 where the system does not tell."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, AttributeError):
        return 0.0


def run_script(
    parser: argparse.ArgumentParser,
    main: Callable[[argparse.Namespace], None],
    arguments: Sequence[str] | None = None,
) -> None:
    """Parse the command line (or ``arguments``) and run ``main``.

    A RetortError, or a file or memory that the system refuses, becomes one ``error:`` line on stderr, with the script's
    name, and exit status 2; an OutOfTime one line and status 75; an Interrupted one line and 128 + the signal's number;
    any other exception is a defect and keeps its traceback.
    """
    replace_closed_streams()
    args = parser.parse_args(arguments)
    start_logging()
    end_with_workflow()
    name = Path(parser.prog).stem
    try:
        main(args)
    except RetortError as error:
        complain(f"error: {name}: {error}")
        sys.exit(EXIT_BAD_INPUT)
    except OutOfTime as stop:
        complain(f"{name}: {stop}")
        sys.exit(EXIT_OUT_OF_TIME)
    except Interrupted as stop:
        complain(f"{name}: {stop}")
        sys.exit(128 + stop.signal_number)
    except KeyboardInterrupt:
        complain(f"error: {name}: interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except (OSError, MemoryError, RuntimeError) as error:
        if (refused := refusal(error)) is None:
            raise
        complain(f"error: {name}: {refused}")
        sys.exit(EXIT_BAD_INPUT)
