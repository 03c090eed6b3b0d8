"""The command line: one module per command.

Nothing of weight is imported before it is needed: an exported system translates without torch and pydantic.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from retort import __version__
from retort.cli import check, compare, export, init, run, serve, status, translate, why
from retort.data.streams import complain, drop_complaints, replace_closed_streams, write_out
from retort.errors import RetortError, refusal

COMMANDS = (init, check, run, status, why, compare, translate, export, serve)
"""Each has ``add(commands)``, which declares the command's arguments and, as ``call``, the function that takes them."""


class Parser(argparse.ArgumentParser):
    """One that says so where the help cannot be written."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is not None and file is sys.stdout:
            write_out(message)
        else:
            super()._print_message(message, file)


def parser() -> argparse.ArgumentParser:
    arguments = Parser(prog="retort", description="Fast students of slow sequence generators.")
    arguments.add_argument("--version", action="version", version=f"retort {__version__}")
    commands = arguments.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add(commands)
    for one in commands.choices.values():
        one.set_defaults(parser=one, advice=one.get_default("advice") or "")
    return arguments


def main() -> None:
    replace_closed_streams()
    try:
        args, unknown = parser().parse_known_args()
        if unknown:
            # with the usage of its command
            args.parser.error(f"unrecognized arguments: {' '.join(unknown)}{args.advice}")
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
    finally:
        drop_complaints()


def _fail(message: str) -> NoReturn:
    complain(f"error: retort: {message}")
    sys.exit(2)
