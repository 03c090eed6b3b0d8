"""Count the n-grams of a training text's targets, or of texts, for searches with an n-gram model."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np

from retort.config import Cleaning, TextSource
from retort.config.files import mirror_directory
from retort.config.search import MAX_NGRAM_VOCABULARY
from retort.corpus.cleaning import HeldOut
from retort.corpus.downloads import CACHE
from retort.corpus.monolingual import clean
from retort.corpus.sources import TextReader, locate
from retort.data.batches import Ragged
from retort.data.files import write_bytes
from retort.data.ngram_counts import NgramCounter
from retort.data.ngrams import MAX_ORDER
from retort.data.parquet import ROW_GROUP_ROWS, iterate_table
from retort.data.tables import ENCODED
from retort.data.vocabulary import Vocabulary
from retort.errors import RetortError
from retort.workflow.arguments import count, threads
from retort.workflow.scripting import run_script, section

RULES = Cleaning(max_words=None, drop_duplicates=False)
"""For how often a sentence occurs is what is counted."""


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--train", type=Path, help="encoded table whose targets are counted")
    arguments.add_argument("--texts", type=section(list[TextSource]), default=[], help="texts that are counted, JSON")
    arguments.add_argument(
        "--held-out", type=Path, nargs="+", default=[], help="corpus tables whose texts are not counted in texts"
    )
    arguments.add_argument("--vocabulary", type=Path, required=True, help="directory of the vocabulary")
    arguments.add_argument("--order", type=count, required=True, help="tokens of the longest n-grams, at most 4")
    arguments.add_argument("--most", type=count, required=True, help="most n-grams in memory")
    arguments.add_argument("--mirror", type=Path, help="directory used instead of downloading (default: RETORT_MIRROR)")
    arguments.add_argument("--threads", type=threads, default=1, help="threads that encode")
    arguments.add_argument("--output", type=Path, required=True)
    return arguments


def main(args: argparse.Namespace) -> None:
    if args.order > MAX_ORDER:
        raise RetortError(f"--order {args.order}: a table holds n-grams of at most {MAX_ORDER} tokens")
    vocabulary = Vocabulary.load(args.vocabulary, args.threads)
    if vocabulary.target_size > MAX_NGRAM_VOCABULARY:
        raise RetortError(
            f"{args.vocabulary}: n-grams have at most {MAX_NGRAM_VOCABULARY:,} different tokens, and this vocabulary "
            f"has {vocabulary.target_size:,}; lower vocabulary.size, or set lm_weight to 0"
        )
    counter = NgramCounter(args.order, args.most)
    for targets in _encoded_texts(args, vocabulary) if args.texts else _encoded_targets(args.train):
        # source-only rows, and blank lines, are no sentences
        counter.add(Ragged(targets.tokens, np.unique(targets.offsets)))
    if not counter.tokens:
        where = args.train or ", ".join(text.location for text in args.texts)
        raise RetortError(f"{where}: no target to count n-grams of; name another text in ngrams")
    model = counter.model(vocabulary.target_size, vocabulary.digest)
    write_bytes(args.output, model.to_bytes())
    logging.info(
        "%s n-grams of %s tokens; %s dropped as too rare",
        f"{len(model.keys):,}",
        f"{counter.tokens:,}",
        f"{counter.dropped:,}",
    )


def _encoded_targets(path: Path) -> Iterator[Ragged]:
    for part in iterate_table(path, ENCODED):
        yield Ragged.from_arrow(part.column("target"))


def _encoded_texts(args: argparse.Namespace, vocabulary: Vocabulary) -> Iterator[Ragged]:
    mirror = mirror_directory(args.mirror)
    texts = chain.from_iterable(TextReader(locate(text, mirror, CACHE)) for text in args.texts)
    counts: Counter[str] = Counter()
    lines = clean(texts, RULES, HeldOut.read(args.held_out), counts)
    while part := list(islice(lines, ROW_GROUP_ROWS)):
        yield Ragged.from_lists(vocabulary.encode_target(part))
    logging.info("lines of texts: %s", ", ".join(f"{n:,} {reason}" for reason, n in counts.items()))


if __name__ == "__main__":
    run_script(parser(), main)
