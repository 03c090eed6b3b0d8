"""``retort why``: whether a result would be made again, and why."""

from __future__ import annotations

import argparse
from pathlib import Path

from retort.data.streams import write_out


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    why = commands.add_parser("why", help="say whether a result of a run would be made again, and what changed")
    why.add_argument("result", type=Path, help="a file below results/<run>/ that a rule makes")
    why.add_argument(
        "--configfile", nargs="+", help="configuration to run with; default: the one that the run was started with"
    )
    why.add_argument("--json", action="store_true", help="answer as JSON")
    why.set_defaults(call=run)


def run(args: argparse.Namespace) -> None:
    """Say why a result would be made again."""
    from retort.workflow import why

    answer = why.why(args.result, args.configfile)
    write_out(f"{answer.json() if args.json else answer.text()}\n")
