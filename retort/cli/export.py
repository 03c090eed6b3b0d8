"""``retort export``: a checkpoint for a faster engine."""

from __future__ import annotations

import argparse
from pathlib import Path

from retort.cli.searches import EXAMPLE, named_search
from retort.data.streams import write_out
from retort.engines import EXPORT_ENGINES
from retort.errors import RetortError
from retort.workflow.arguments import count, points

OWN_RUN = Path()
"""--shortlist without a path."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = commands.add_parser("export", help="write a checkpoint for a faster engine, which needs no torch")
    export.add_argument("--model", type=Path, required=True, help="directory of a trained checkpoint")
    export.add_argument("--output", type=Path, required=True, help="directory to write; must not exist or be empty")
    export.add_argument(
        "--format",
        choices=EXPORT_ENGINES,
        help="onnx for models that decode in parallel, ctranslate2 for those from left to right; default: what fits",
    )
    export.add_argument("--precision", choices=["float32", "int8"], default="float32", help="default float32")
    export.add_argument("--search", help=f"how the exported system decodes, such as {EXAMPLE}")
    export.add_argument(
        "--check",
        type=Path,
        help="lines of source text to compare the outputs on; default: the first test set of the checkpoint's run",
    )
    export.add_argument("--references", type=Path, help="references of those lines, to measure BLEU")
    export.add_argument(
        "--shortlist",
        type=Path,
        nargs="?",
        const=OWN_RUN,
        help="score a few candidates per source piece instead of the whole vocabulary, chosen from "
        "this encoded training text, or that of this run; default: the run that the checkpoint is in",
    )
    export.add_argument(
        "--shortlist-size", type=count, help="candidates per source piece, and frequent pieces (default 50)"
    )
    export.add_argument(
        "--max-bleu-loss",
        type=points,
        help="write nothing if the outputs lose more BLEU than this against torch in float32 (default 2)",
    )
    export.set_defaults(call=run)


def run(args: argparse.Namespace) -> None:
    """Write one bundle, and say what it changes."""
    from retort.export.card import parity_sentence, shortlist_sentence
    from retort.export.exporting import MAX_BLEU_LOSS, ShortlistSource, export_system
    from retort.export.parity import lines_of_file, lines_of_run
    from retort.export.shortlist import SIZE

    if args.references and not args.check:
        raise RetortError("--references are of the lines of --check; give both")
    search = None if args.search is None else named_search(args.search).model_dump()
    lines = lines_of_file(args.check, args.references, args.model) if args.check else lines_of_run(args.model)
    if args.max_bleu_loss is not None and (lines is None or not lines.references):
        raise RetortError("--max-bleu-loss is a limit of BLEU, which needs references; give --check and --references")
    shortlist = None
    if args.shortlist is not None:
        path = None if args.shortlist is OWN_RUN else args.shortlist
        shortlist = ShortlistSource(path, args.shortlist_size or SIZE)
    elif args.shortlist_size:
        raise RetortError("--shortlist-size is of --shortlist; give both")
    facts = export_system(
        args.model,
        args.output,
        engine=args.format,
        precision=args.precision,
        search=search,
        lines=lines,
        shortlist=shortlist,
        max_bleu_loss=MAX_BLEU_LOSS if args.max_bleu_loss is None else args.max_bleu_loss,
    )
    write_out(f"{args.output}: {facts['engine']}, {facts['precision']}. {parity_sentence(facts)}\n")
    write_out(shortlist_sentence(facts))
