"""Encode corpus tables with a vocabulary; each output has the name of its corpus table. Lengths are counted, also of
tables that are not encoded."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from retort.corpus.encoding import count_tokens, encode_corpus, unknown_warning
from retort.data.parquet import write_table
from retort.data.provenance import file_digest, provenance
from retort.data.tables import ENCODING
from retort.data.vocabulary import Vocabulary
from retort.errors import RetortError
from retort.filenames import split_of
from retort.workflow.arguments import threads
from retort.workflow.scripting import run_script


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--vocabulary", required=True, type=Path, help="directory of the vocabulary")
    result.add_argument("--corpus", required=True, nargs="+", type=Path, help="corpus tables")
    result.add_argument("--counted", nargs="*", default=[], type=Path, help="corpus tables that are only counted")
    result.add_argument("--max-length", type=int, help="longest sequence of the models in tokens, eos included")
    result.add_argument("--truncate-sources", action="store_true", help="cut longer sources")
    result.add_argument("--output", required=True, type=Path, help="directory of the encoded tables")
    result.add_argument("--threads", type=threads, default=1, help="threads that encode")
    return result


def main(args: argparse.Namespace) -> None:
    """Encode every table."""
    vocabulary = Vocabulary.load(args.vocabulary, args.threads)
    names = [path.name for path in args.corpus]
    if len(set(names)) < len(names):
        raise RetortError(f"--corpus: {', '.join(names)}: outputs are named as their tables; give each name once")
    longest = args.max_length - 1 if args.max_length else None
    rows = []
    for path in [*args.corpus, *args.counted]:
        if path in args.corpus:
            facts = provenance(corpus=file_digest(path))
            counted = encode_corpus(
                path,
                vocabulary,
                args.output / path.name,
                provenance=facts,
                longest=longest,
                truncate_sources=args.truncate_sources,
            )
        else:
            counted = count_tokens(path, vocabulary, longest)
        split = split_of(path)
        logging.info("%s: %s", split, counted)
        if warning := unknown_warning(split, counted["target"]):
            logging.warning("%s", warning)
        rows += [{"split": split, "side": side, **numbers} for side, numbers in counted.items()]
    table = ENCODING.of_rows(rows)
    facts = provenance(vocabulary=vocabulary.digest, max_length=args.max_length, truncate_sources=args.truncate_sources)
    write_table(args.output / "encoding.parquet", ENCODING, table, provenance=facts)


if __name__ == "__main__":
    run_script(parser(), main)
