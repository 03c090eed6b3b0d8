"""``retort compare``: systems of several runs in one table."""

from __future__ import annotations

import argparse
from pathlib import Path

from retort.data.streams import write_out


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser("compare", help="compare the systems of several runs, as far as that can be done")
    command.add_argument("runs", type=Path, nargs="+", help="directories of runs, such as results/default")
    command.add_argument("--output", type=Path, help="directory for the table as CSV and the figure")
    command.set_defaults(call=run)


def run(args: argparse.Namespace) -> None:
    """Print the table, and write it and its figure if that is asked for."""
    from retort.data.files import write_bytes
    from retort.report.runs_compared import as_csv, compare_runs, figure, lines

    compared = compare_runs(args.runs)
    write_out("".join(f"{line}\n" for line in lines(compared)))
    if args.output:
        write_bytes(args.output / "comparison.csv", as_csv(compared).encode())
        if drawn := figure(compared):
            write_bytes(args.output / "quality_latency.png", drawn)
