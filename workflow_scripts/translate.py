"""Translate the test sets with one checkpoint and one search."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pydantic import TypeAdapter

from retort.config import Search
from retort.data.parquet import iterate_table, write_table
from retort.data.provenance import file_digest, provenance
from retort.data.runs import Run
from retort.data.tables import CORPUS, TRANSLATIONS
from retort.filenames import test_set_of
from retort.models.checkpoint import load_checkpoint, weights_digest
from retort.search.decoding import decode_table, load_helpers
from retort.training.device import describe_device, prepare_device
from retort.workflow.arguments import count, seed, threads
from retort.workflow.scripting import run_script, section


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--checkpoint", type=Path, required=True)
    arguments.add_argument("--search", type=section(Search), required=True, help="a search of the config, as JSON")
    arguments.add_argument("--system", required=True, help="name of the system")
    arguments.add_argument("--seed", type=seed, required=True, help="seed of its training")
    arguments.add_argument("--search-name", required=True, help="name of the search")
    arguments.add_argument("--teacher", type=Path, help="checkpoint, if the search has a teacher score its candidates")
    arguments.add_argument("--batch-tokens", type=count, default=4096)
    arguments.add_argument("--tests", type=Path, nargs="+", required=True, help="corpus tables test.<name>.parquet")
    arguments.add_argument("--threads", type=threads, default=1)
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    device = prepare_device(args.threads)
    checkpoint = load_checkpoint(args.checkpoint, device)
    teacher, helper_facts = load_helpers(checkpoint, [args.search], args.teacher)
    run = Run(args.system, args.seed, args.search_name)

    def parts() -> Iterator[pa.Table]:
        for path in args.tests:
            rows = iterate_table(path, CORPUS)
            test_set = test_set_of(path)
            yield from decode_table(
                checkpoint.model,
                checkpoint.vocabulary,
                rows,
                search=args.search,
                batch_tokens=args.batch_tokens,
                teacher=teacher,
                run=run,
                test_set=test_set,
            )

    facts = provenance(
        checkpoint=weights_digest(args.checkpoint),
        **helper_facts,
        search={"name": args.search_name, **TypeAdapter(Search).dump_python(args.search, mode="json")},
        tests={path.name: file_digest(path) for path in args.tests},
        device=describe_device(device),
    )
    write_table(args.output, TRANSLATIONS, data=parts(), provenance=facts)


if __name__ == "__main__":
    run_script(parser(), main)
