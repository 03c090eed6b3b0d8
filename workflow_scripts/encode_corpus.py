"""Encode corpus tables with a vocabulary; each output has the name of its corpus table."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from retort.corpus.encoding import encode_corpus
from retort.errors import RetortError
from retort.provenance import file_digest, provenance
from retort.scripting import run_script
from retort.vocabulary import Vocabulary


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--vocabulary", required=True, type=Path, help="directory of the vocabulary")
    result.add_argument("--corpus", required=True, nargs="+", type=Path, help="corpus tables")
    result.add_argument("--output", required=True, type=Path, help="directory of the encoded tables")
    result.add_argument("--threads", type=int, default=1, help="threads that encode")
    return result


def main(args: argparse.Namespace) -> None:
    """Encode every table."""
    vocabulary = Vocabulary.load(args.vocabulary, args.threads)
    names = [path.name for path in args.corpus]
    if len(set(names)) < len(names):
        raise RetortError(f"--corpus: {', '.join(names)}: outputs are named as their tables; give each name once")
    for path in args.corpus:
        facts = encode_corpus(path, vocabulary, args.output / path.name, provenance(corpus=file_digest(path)))
        logging.info("%s: %s", path.name, facts)


if __name__ == "__main__":
    run_script(parser(), main)
