"""Read or generate the parallel text, split and clean it, and write the corpus tables."""

from __future__ import annotations

import argparse
from pathlib import Path

from retort.config import Cleaning, Corpus
from retort.corpus.preparation import prepare_corpus
from retort.data.provenance import provenance
from retort.workflow.scripting import run_script, section


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--corpus", required=True, type=section(Corpus), help="the corpus section, JSON or @file")
    result.add_argument("--cleaning", default="{}", type=section(Cleaning), help="the cleaning section, JSON or @file")
    result.add_argument("--output", required=True, type=Path, help="directory of the corpus tables")
    result.add_argument(
        "--mirror",
        type=Path,
        help="directory that holds the texts, used instead of downloading (default: corpus.mirror, then RETORT_MIRROR)",
    )
    return result


def main(args: argparse.Namespace) -> None:
    """Prepare the corpus."""
    corpus = args.corpus.model_dump(mode="json", exclude=set(args.corpus.local_keys))
    facts = provenance(corpus=corpus, cleaning=args.cleaning.model_dump(mode="json"))
    prepare_corpus(args.corpus, args.cleaning, args.output, mirror=args.mirror, provenance=facts)


if __name__ == "__main__":
    run_script(parser(), main)
