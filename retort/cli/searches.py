"""The search that a command's arguments choose. What checks it is imported only where there is one."""

from __future__ import annotations

import argparse
from typing import Any

from retort.errors import RetortError
from retort.workflow.arguments import count

EXAMPLE = "'beam beam_size=8 length_penalty=0.6', JSON, or @FILE for that of a file"


def add_search(arguments: argparse.ArgumentParser) -> None:
    """The arguments that ``chosen_search`` reads."""
    arguments.add_argument("--search", help=f"how to decode, such as {EXAMPLE}")
    arguments.add_argument("--beam", type=count, help="hypotheses of a beam search: short for --search")
    arguments.add_argument(
        "--mode", choices=["ar", "nar"], help="left to right, or in parallel; default: as its objective has it"
    )
    arguments.add_argument("--passes", type=count, help="decoder passes of the parallel mode")
    arguments.add_argument("--block", type=count, help="tokens that the parallel mode predicts at once")


def add_batch_size(arguments: argparse.ArgumentParser, what: str) -> None:
    """The number of texts that a system decodes at once."""
    arguments.add_argument(
        "--batch-size",
        type=count,
        help=f"most {what} decoded at once; default: 32, or 1 where an output would depend on the others",
    )


def chosen_search(args: argparse.Namespace) -> dict[str, Any] | None:
    """The search that the arguments choose; None if they say nothing."""
    if args.search is None and not (args.beam or args.mode or args.passes or args.block):
        return None
    from retort.runtime.opening import read_objective

    return _search(args, read_objective(args.model)).model_dump()  # type: ignore[no-any-return]


def named_search(text: str) -> Any:
    """The search of --search, complete."""
    from retort.runtime.choosing import parsed_search

    return parsed_search(text, f"--search {text}")


def _search(args: argparse.Namespace, objective: dict[str, Any]) -> Any:
    """The search that the arguments choose for a model trained with this objective, a section of the configuration."""
    from retort.config import objective_named
    from retort.runtime.choosing import checked_search, decodes_by, parsed_search

    name, declared = objective["name"], objective_named(objective["name"])
    if declared is None:
        raise RetortError(f"{args.model}: trained as {name!r}, which this version of Retort does not know")
    allowed = declared.searches()
    decodes = decodes_by(name, allowed)
    if args.search is not None:
        if args.beam or args.mode or args.passes or args.block:
            raise RetortError("--search says how to decode; leave out --beam, --mode, --passes and --block")
        search = named_search(args.search)
        return checked_search(search, objective, f"--search {search.kind}")
    if args.beam:
        if args.mode == "nar" or args.passes or args.block:
            raise RetortError(f"--beam {args.beam}: only the mode from left to right has beams; leave out the others")
        what = f"--beam {args.beam}"
        return checked_search(parsed_search({"kind": "beam", "beam_size": args.beam}, what), objective, what)
    for option, value, kind in (("passes", args.passes, "mask_predict"), ("block", args.block, "blocks")):
        if value and args.mode == "ar":
            raise RetortError(f"--{option} {value}: only the parallel mode has {option}; add --mode nar")
        if value and kind not in allowed:
            raise RetortError(f"--{option} {value}: {decodes}, which has no choice of {option}")
    if args.passes:
        return parsed_search({"kind": "mask_predict", "iterations": args.passes}, f"--passes {args.passes}")
    if args.block:
        return parsed_search({"kind": "blocks", "block": args.block}, f"--block {args.block}")
    # searches of the modes that it was trained for come first
    for search in [*declared.default_searches(objective).values(), *declared.usual_searches.values()]:
        if (search.decodes == "next_token") == (args.mode == "ar"):
            return search
    raise RetortError(f"--mode {args.mode}: {decodes}, and has no such mode")
