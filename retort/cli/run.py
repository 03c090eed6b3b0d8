"""``retort run``: snakemake with the right flags."""

from __future__ import annotations

import argparse
import itertools
import os
import re
import sys
from pathlib import Path

from retort.errors import RetortError

PLAIN = re.compile(r"-[fFkp]*[nq]|--(dry|logger|quiet)")
"""How flags of snakemake begin with which it says itself what it does."""
CONFIGURATION = re.compile(r"(?!-|results/).+\.(ya?ml|json)", re.IGNORECASE)
"""An argument that names one; no target of the workflow outside of ``results`` does."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "run",
        usage="retort run CONFIGURATION [CONFIGURATION ...] [TARGET ...] [FLAG OF SNAKEMAKE ...]",
        help="run a configuration: snakemake with the right flags",
    )
    command.add_argument("configuration", type=Path)
    more = command.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        help="more configuration files, a later one overrides an earlier one; then targets and flags of snakemake",
    )
    # which argparse takes for required
    more.required = False
    command.set_defaults(call=run, advice="; a configuration goes before targets and flags")


def run(args: argparse.Namespace) -> None:
    """Replace this process by snakemake; what is given after the configurations is passed on, and files of --configfile
    are layered on them."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "Snakefile").is_file():
        raise RetortError(f"{root}: no Snakefile; retort run needs a checkout of Retort, installed with make run")
    # Snakemake would take a file that exists for a target, which is there
    layers = list(itertools.takewhile(CONFIGURATION.fullmatch, args.arguments))
    for configuration in (args.configuration, *map(Path, layers)):
        if not configuration.is_file():
            raise RetortError(f"{configuration}: no such file; expected a configuration, as retort init writes it")
    chosen = ("-c", "--cores", "-j", "--jobs", "--profile")
    cores = [] if any(given.startswith(chosen) for given in args.arguments) else ["--cores", "all"]
    # of several --configfile, Snakemake would take the last one alone
    files = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    files.add_argument(
        "--configfile", "--configfiles", nargs="+", action="extend", default=[str(args.configuration), *layers]
    )
    given, passed_on = files.parse_known_args(args.arguments[len(layers) :])
    # a value of --config may end as a file does
    for late in (one for one in passed_on if CONFIGURATION.fullmatch(one) and "=" not in one):
        raise RetortError(f"{late}: a configuration goes before targets and flags, or behind --configfile")
    command = [sys.executable, "-m", "snakemake", "--configfile", *given.configfile]
    command += ["--snakefile", str(root / "Snakefile"), *cores]
    if not any(map(PLAIN.match, args.arguments)):
        command += ["--logger=retort"]
    # where Snakemake looks for that logger
    paths = [str(root), str(root / "retort/workflow/plugins"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    os.execve(sys.executable, [*command, *passed_on], environment)
