"""``retort translate``: lines in, lines out. This module declares its arguments, ``retort.cli.translating`` does it."""

from __future__ import annotations

import argparse
from pathlib import Path

from retort.cli.searches import add_batch_size, add_search
from retort.workflow.arguments import available_cores, count, threads


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    translate = commands.add_parser(
        "translate", help="translate lines from standard input, or --input, to standard output"
    )
    translate.add_argument(
        "--model", type=Path, required=True, help="directory of a trained checkpoint or of an exported system"
    )
    translate.add_argument(
        "--input", type=Path, help="text file, one segment a line, plain or compressed; default: standard input"
    )
    add_search(translate)
    translate.add_argument(
        "--teacher", type=Path, help="directory of a checkpoint, for a search that has a teacher score its candidates"
    )
    add_batch_size(translate, "lines, or sentences of --text,")
    translate.add_argument("--threads", type=threads, default=available_cores(), help="default: all cores")
    translate.add_argument(
        "--precision", choices=["float32", "bfloat16"], help="of a checkpoint's weights (default float32)"
    )
    translate.add_argument(
        "--device", choices=["cpu", "cuda"], help="where a checkpoint runs; default: a GPU if there is one"
    )
    _add_output(translate)
    translate.set_defaults(call=run)


def _add_output(translate: argparse.ArgumentParser) -> None:
    translate.add_argument("--output", type=Path, help="file to write, once it is complete; default: standard output")
    translate.add_argument("--n-best", type=count, default=1, help="outputs per line, as many as the search ranks")
    translate.add_argument(
        "--scores", action="store_true", help="add columns: score, confidence, and the probability of each token"
    )
    translate.add_argument("--json", action="store_true", help="write an object per line of input")
    translate.add_argument(
        "--text",
        action="store_true",
        help="running text: split lines into sentences and put them together again, and say which addresses, numbers "
        "and tags do not come through",
    )
    translate.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="PATTERN",
        help="with --text: a regular expression of what else must come through, such as '%%s' or '{[a-z]+}'",
    )


def run(args: argparse.Namespace) -> None:
    """Imports what translates, which takes longer than all other commands need."""
    from retort.cli.translating import translate

    translate(args)
