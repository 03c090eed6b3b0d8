"""Gather the shards of the distilled text by id into one table, and into an encoded table to train on."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retort.errors import RetortError
from retort.provenance import file_digest, provenance
from retort.scripting import run_script
from retort.tables import ENCODED, TRANSLATIONS, read_provenance, read_table, write_table
from retort.vocabulary import Vocabulary


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--shards", type=Path, nargs="+", required=True, help="translations tables")
    arguments.add_argument("--train", type=Path, required=True, help="encoded table of the training pairs")
    arguments.add_argument("--vocabulary", type=Path, required=True, help="directory")
    arguments.add_argument("--output-translations", type=Path, required=True)
    arguments.add_argument("--output-encoded", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    vocabulary = Vocabulary.load(args.vocabulary)
    distilled = pa.concat_tables([read_table(path, TRANSLATIONS) for path in args.shards])
    distilled = distilled.filter(pc.equal(distilled.column("rank"), 0)).sort_by("id")
    train = read_table(args.train, ENCODED).sort_by("id")
    check_ids(distilled.column("id").to_numpy(), train.column("id").to_numpy(), args)
    if int(pc.max(pc.list_flatten(distilled.column("tokens"))).as_py() or 0) >= vocabulary.target_size:
        raise RetortError(
            f"{args.shards[0]}: holds token ids beyond the vocabulary's {vocabulary.target_size}; it was decoded with "
            f"another vocabulary: set vocabulary.path to that one"
        )
    flawed = pc.or_(distilled.column("truncated"), distilled.column("empty"))
    kept = distilled.filter(pc.invert(flawed))
    if not kept.num_rows:
        raise RetortError(
            f"{args.shards[0]}: all {distilled.num_rows} outputs are empty or cut at the length limit: the teacher "
            f"has not learned to translate; look at its validation scores, and train it longer"
        )
    source = train.take(pa.array(np.searchsorted(train.column("id").to_numpy(), kept.column("id").to_numpy())))
    encoded = pa.table({"id": kept.column("id"), "source": source.column("source"), "target": kept.column("tokens")})
    facts = provenance(
        decoding=read_provenance(args.shards[0]),
        train=file_digest(args.train),
        pairs=train.num_rows,
        truncated=int(pc.sum(distilled.column("truncated")).as_py() or 0),
        empty=int(pc.sum(distilled.column("empty")).as_py() or 0),
        kept=kept.num_rows,
    )
    write_table(args.output_translations, TRANSLATIONS, distilled, facts)
    write_table(args.output_encoded, ENCODED, encoded, facts)
    logging.info("%s", {name: facts[name] for name in ("pairs", "truncated", "empty", "kept")})


def check_ids(found: np.ndarray, expected: np.ndarray, args: argparse.Namespace) -> None:
    """The distilled rows must be the training pairs, each once."""
    names = ", ".join(str(path) for path in args.shards)
    values, counts = np.unique(found, return_counts=True)
    if (counts > 1).any():
        raise RetortError(f"{names}: id {values[counts > 1][0]} occurs {counts.max()} times; expected each id once")
    missing, extra = np.setdiff1d(expected, values), np.setdiff1d(values, expected)
    if len(missing) or len(extra):
        raise RetortError(
            f"{names}: {len(found)} rows for the {len(expected)} pairs of {args.train}; {len(missing)} id(s) missing "
            f"{missing[:5].tolist()}, {len(extra)} unknown {extra[:5].tolist()}; decode this corpus again"
        )


if __name__ == "__main__":
    run_script(parser(), main)
