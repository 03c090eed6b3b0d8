"""Gather references and the teacher's translations, by id, into a table with both targets of each source."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from retort.distillation.gathering import gather
from retort.distillation.mixing import mix, similarities
from retort.errors import RetortError
from retort.provenance import file_digest, provenance
from retort.scripting import run_script
from retort.tables import CORPUS, ENCODED, MIXED, TRANSLATIONS, read_provenance, read_table, write_table
from retort.vocabulary import Vocabulary


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--translations", type=Path, required=True, help="the teacher's, of all training sources")
    arguments.add_argument("--corpus", type=Path, required=True, help="corpus table of the training pairs")
    arguments.add_argument("--train", type=Path, required=True, help="encoded table of the training pairs")
    arguments.add_argument("--vocabulary", type=Path, required=True, help="directory")
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    translations = read_table(args.translations, TRANSLATIONS)
    distilled, counts = gather(translations, args.train, Vocabulary.load(args.vocabulary), [args.translations])
    references = dict(zip(*read_table(args.corpus, CORPUS, ["id", "target"]).to_pydict().values(), strict=True))
    texts = dict(zip(translations["id"].to_pylist(), translations["text"].to_pylist(), strict=True))
    ids = distilled["id"].to_pylist()
    missing = [number for number in ids if number not in references]
    if missing:
        raise RetortError(
            f"{args.corpus}: lacks {len(missing)} id(s) of {args.train}, {missing[:5]}; encode the corpus again"
        )
    found = similarities([texts[number] for number in ids], [references[number] for number in ids])
    table = mix(read_table(args.train, ENCODED), distilled, dict(zip(ids, found, strict=True)))
    counts |= {"similarity": sum(found) / len(found)}
    facts = provenance(decoding=read_provenance(args.translations), train=file_digest(args.train), **counts)
    write_table(args.output, MIXED, table, facts)
    logging.info("%s", counts)


if __name__ == "__main__":
    run_script(parser(), main)
