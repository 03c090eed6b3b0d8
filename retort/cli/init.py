"""``retort init``: a configuration that suits two texts."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from retort.data.streams import write_out
from retort.errors import RetortError


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    init = commands.add_parser("init", help="look at parallel text, and write a configuration that suits it")
    init.add_argument("texts", nargs="+", type=Path, help="source and target file, or one TSV or JSON lines file")
    init.add_argument("--output", type=Path, help="file to write; default: <name>.yaml")
    init.add_argument("--name", help="name of the run; default: that of --output, or of the first file")
    wanted = init.add_mutually_exclusive_group()
    wanted.add_argument("--quick", dest="preset", action="store_const", const="quick", help="one student, few updates")
    wanted.add_argument("--quality", dest="preset", action="store_const", const="quality", help="long trainings")
    wanted.add_argument("--gpu", dest="preset", action="store_const", const="gpu", help="a larger model, large batches")
    init.set_defaults(preset="usual", call=run)


def run(args: argparse.Namespace) -> None:
    """Look at texts, decide, write a configuration, and say what was seen and what a run will cost."""
    from retort.workflow.init.decisions import decide
    from retort.workflow.init.presets import preset_named
    from retort.workflow.init.statistics import sides_of, statistics_of, which_is_which
    from retort.workflow.init.writing import check_name, configuration, run_name, write_configuration

    if len(args.texts) > 2:
        raise RetortError(f"{len(args.texts)} files; expected two, source and target, or one that holds both")
    name = run_name(args.output or args.texts[0]) if args.name is None else args.name
    check_name(name)
    output = args.output or Path(f"{name}.yaml")
    if output.exists():
        raise RetortError(f"{output}: is there already, and is never overwritten; name another by --output")
    train = sides_of(args.texts)
    statistics = statistics_of(train)
    write_out("".join(f"{line}\n" for line in which_is_which(train) + statistics.lines()))
    decisions = decide(statistics, preset_named(args.preset))
    write_out("".join(f"{note}\n" for note in decisions.notes))
    write_configuration(output, configuration(name, train, statistics, decisions=decisions, preset=args.preset))
    from retort.workflow.init.estimate import cost_line

    write_out(f"{output}: written, with the reasons of its values. {cost_line(decisions)}.\n")
    write_out(f"Now: retort run {shlex.quote(str(output))}\n")
