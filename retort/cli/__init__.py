"""The command line: one module per command.

Nothing of weight is imported before it is needed: an exported system translates without torch and pydantic.
"""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from retort import __version__
from retort.cli import check, compare, export, init, run, serve, status, translate, why
from retort.data.streams import complain, replace_closed_streams, write_out
from retort.errors import RetortError, refusal

COMMANDS = (init, check, run, status, why, compare, translate, export, serve)
"""Each has ``add(commands)``, which declares the command's arguments and, as ``call``, the function that takes them."""


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(prog="retort", description="Fast students of slow sequence generators.")
    arguments.add_argument("--version", action="version", version=f"retort {__version__}")
    commands = arguments.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add(commands)
    return arguments


def _arguments() -> argparse.Namespace:
    try:
        return parser().parse_args()
    except SystemExit:
        # --help and --version have written, too
        if sys.stdout is not None:
            write_out("")
        raise


def main() -> None:
    replace_closed_streams()
    try:
        args = _arguments()
        args.call(args)
    except RetortError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "retort").startswith("retort"):
            raise
        _fail(
            f"this needs the package {error.name}, which is not installed; install retort-distill[export] to export, "
            f"or retort-distill[workflow] for everything"
        )
    except BrokenPipeError:
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, MemoryError, RuntimeError) as error:
        if (refused := refusal(error)) is None:
            raise
        _fail(refused)


def _fail(message: str) -> NoReturn:
    complain(f"error: retort: {message}")
    sys.exit(2)
