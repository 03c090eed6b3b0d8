"""The search that a command's arguments choose. The configuration's classes are imported only where there is one."""

from __future__ import annotations

import argparse
import json
from typing import Any

from retort.errors import RetortError


def chosen_search(args: argparse.Namespace) -> dict[str, Any] | None:
    """The search that the arguments choose; None if they say nothing."""
    from retort.runtime.opening import read_objective

    if args.search is None and not (args.mode or args.passes or args.block):
        return None
    return _search(args, read_objective(args.model)).model_dump()  # type: ignore[no-any-return]


def _search(args: argparse.Namespace, objective: dict[str, Any]) -> Any:
    """The search that the arguments choose for a model trained with this objective, a section of the configuration."""
    from retort.config import objective_named

    name, declared = objective["name"], objective_named(objective["name"])
    assert declared is not None, name
    allowed = declared.searches()
    decodes = f"a model trained as {name} decodes by {' or '.join(allowed)}"
    if args.search is not None:
        if args.mode or args.passes or args.block:
            raise RetortError("--search says how to decode; leave out --mode, --passes and --block")
        search = parsed_search(args.search)
        if search.kind not in allowed:
            raise RetortError(f"--search {search.kind}: {decodes}")
        return search
    for option, value, kind in (("passes", args.passes, "mask_predict"), ("block", args.block, "blocks")):
        if value and args.mode == "ar":
            raise RetortError(f"--{option} {value}: only the parallel mode has {option}; add --mode nar")
        if value and kind not in allowed:
            raise RetortError(f"--{option} {value}: {decodes}, which has no choice of {option}")
    if args.passes:
        return parsed_search(json.dumps({"kind": "mask_predict", "iterations": args.passes}))
    if args.block:
        return parsed_search(json.dumps({"kind": "blocks", "block": args.block}))
    # searches of the modes that it was trained for come first
    for search in [*declared.default_searches(objective).values(), *declared.usual_searches.values()]:
        if (search.decodes == "next_token") == (args.mode == "ar"):
            return search
    raise RetortError(f"--mode {args.mode}: {decodes}, and has no such mode")


def parsed_search(text: str) -> Any:
    """The search of a JSON text, complete."""
    from pydantic import TypeAdapter, ValidationError

    from retort.config import Search
    from retort.config.problems import shown

    try:
        return TypeAdapter(Search).validate_json(text.encode("utf-8", "surrogateescape"))
    except ValidationError as error:
        problem = error.errors()[0]
        where = "".join(f"{part}: " for part in problem["loc"][1:])
        found = "" if problem["type"].startswith("json") else f", found {shown(problem['input'])}"
        raise RetortError(f"--search {text[:200]}: {where}{problem['msg']}{found}") from None
