"""Read monolingual text, clean it, encode it, and write blocks of it to pre-train on."""

from __future__ import annotations

import argparse
from itertools import chain
from pathlib import Path

from retort.config import Cleaning, TextSource
from retort.config.files import mirror_directory
from retort.corpus.downloads import CACHE
from retort.corpus.monolingual import both_sides, prepare_monolingual
from retort.corpus.sources import TextReader, locate
from retort.data.provenance import file_digest, provenance
from retort.data.vocabulary import Vocabulary
from retort.workflow.arguments import count, threads
from retort.workflow.scripting import run_script, section


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument("--texts", required=True, type=section(list[TextSource]), help="texts of the config, as JSON")
    result.add_argument("--corpus", type=Path, help="corpus table whose two sides are read too")
    result.add_argument("--held-out", required=True, type=Path, nargs="+", help="corpus tables of valid and tests")
    result.add_argument("--cleaning", default="{}", type=section(Cleaning), help="the cleaning section, JSON or @file")
    result.add_argument("--vocabulary", required=True, type=Path, help="directory of the vocabulary")
    result.add_argument("--block-tokens", required=True, type=count, help="longest block in tokens, without eos")
    result.add_argument("--valid-blocks", required=True, type=int, help="blocks kept for validation")
    result.add_argument("--mirror", type=Path, help="directory used instead of downloading (default: RETORT_MIRROR)")
    result.add_argument("--threads", type=threads, default=1, help="threads that encode")
    result.add_argument("--output", required=True, type=Path, help="directory of the encoded tables")
    return result


def main(args: argparse.Namespace) -> None:
    """Prepare the text."""
    mirror = mirror_directory(args.mirror)
    readers = [TextReader(locate(text, mirror, CACHE)) for text in args.texts]
    corpora = [args.corpus] if args.corpus else []
    vocabulary = Vocabulary.load(args.vocabulary, args.threads)
    facts = provenance(
        texts=[text.model_dump(mode="json") for text in args.texts],
        corpora={path.name: file_digest(path) for path in corpora},
        held_out={path.name: file_digest(path) for path in args.held_out},
        cleaning=args.cleaning.model_dump(mode="json"),
        vocabulary=vocabulary.digest,
    )
    prepare_monolingual(
        chain(*readers, *map(both_sides, corpora)),
        args.held_out,
        args.cleaning,
        vocabulary=vocabulary,
        block_tokens=args.block_tokens,
        valid_blocks=args.valid_blocks,
        output=args.output,
        provenance=facts,
    )


if __name__ == "__main__":
    run_script(parser(), main)
