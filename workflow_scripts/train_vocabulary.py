"""Train the sentencepiece vocabulary on the training corpus, or take over a given one."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from retort.config import Vocabulary
from retort.data.provenance import file_digest, provenance
from retort.data.vocabulary_training import train_vocabulary
from retort.workflow.scripting import run_script, section

SEED = 1
"""Of the sample of sentences."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument(
        "--vocabulary", required=True, type=section(Vocabulary), help="the vocabulary section, JSON or @file"
    )
    result.add_argument("--corpus", required=True, type=Path, help="corpus table of the training pairs")
    result.add_argument("--outputs", type=Path, help="translations table whose text is the target side instead")
    result.add_argument("--output", required=True, type=Path, help="directory of the vocabulary")
    return result


def main(args: argparse.Namespace) -> None:
    """Train the vocabulary."""
    facts = provenance(vocabulary=args.vocabulary.model_dump(mode="json"), seed=SEED, corpus=file_digest(args.corpus))
    facts |= {"outputs": file_digest(args.outputs)} if args.outputs else {}
    vocabulary = train_vocabulary(
        args.corpus, args.vocabulary, seed=SEED, output=args.output, provenance=facts, outputs=args.outputs
    )
    logging.info("%d source and %d target pieces", vocabulary.source_size, vocabulary.target_size)


if __name__ == "__main__":
    run_script(parser(), main)
