"""``retort translate``: lines in, lines out."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from retort.cli.lines import batches, opened, reader
from retort.cli.searches import add_search, chosen_search
from retort.data.streams import complain, write_out
from retort.workflow.arguments import count, threads


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
    translate.add_argument("--batch-size", type=count, default=32, help="lines translated together (default 32)")
    translate.add_argument("--threads", type=threads, default=os.cpu_count() or 1)
    translate.add_argument(
        "--precision", choices=["float32", "bfloat16"], help="of a checkpoint's weights (default float32)"
    )
    translate.add_argument(
        "--device", choices=["cpu", "cuda"], help="where a checkpoint runs; default: a GPU if there is one"
    )
    translate.set_defaults(call=run)


def run(args: argparse.Namespace) -> None:
    """One line out for each line in, in order; an empty line stays empty; output is flushed batch by batch.

    Input is treated as texts of a corpus are. Each source that is cut is named on standard error.
    """
    from retort.runtime import open_system

    system = open_system(args.model, chosen_search(args), args.threads, args.precision, args.teacher, args.device)
    with opened(args.input) as lines:
        name = str(args.input or "standard input")
        read, more_waits = reader(lines, name)
        done = cut = 0
        for texts in batches(read, more_waits, size=args.batch_size, name=name):
            outputs = system.translate(texts)
            write_out("".join(f"{output.text}\n" for output in outputs))
            for number, output in enumerate(outputs, start=done + 1):
                if output.source_cut:
                    cut += 1
                    _say_cut(name, number, read=system.max_length - 1, cut=output.source_cut)
            done += len(outputs)
    if cut:
        complain(f"warning: retort: {name}: {cut} of {done} lines were longer than the model reads")


def _say_cut(name: str, number: int, read: int, cut: int) -> None:
    complain(
        f"warning: retort: {name}: line {number}: {read + cut} tokens, and the model reads {read}; the last {cut} are "
        f"not translated: split the line"
    )
