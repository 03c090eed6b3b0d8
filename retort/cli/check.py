"""``retort check``: everything that is wrong with a configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

from retort.data.streams import write_out


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = commands.add_parser("check", help="check a configuration, and list everything that is wrong with it")
    check.add_argument("files", nargs="+", type=Path, help="configuration files; a later one overrides an earlier one")
    check.set_defaults(call=run)


def run(args: argparse.Namespace) -> None:
    """Read a configuration as a run would, and say what it is for."""
    from retort.config import PRETRAINED
    from retort.config.load import load_files

    config = load_files(args.files, {}, note=lambda line: write_out(f"note: {line}\n"))
    systems = ", ".join(name for name in config.trained if name != PRETRAINED or config.starts_pretrained)
    files = ", ".join(map(str, args.files))
    write_out(f"{files}: no problem; results/{config.name} would have the systems {systems}\n")
