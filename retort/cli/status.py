"""``retort status``: how far a run is, whether it is under way or was killed."""

from __future__ import annotations

import argparse
from pathlib import Path

from retort.data.streams import write_out


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("status", help="say how far a run is, which may be under way or was killed")
    command.add_argument("run", type=Path, nargs="?", help="directory of the run; default: the one started last")
    command.set_defaults(call=run)


def run(args: argparse.Namespace) -> None:
    from retort.workflow.status import lines

    write_out("".join(f"{line}\n" for line in lines(args.run)))
