"""Write the made-up language pair of the default run as two text files, one sentence per line, to try Retort on:

python examples/two-files/made_up.py --pairs 4000 my.source my.target
"""

from __future__ import annotations

import argparse
from pathlib import Path

from retort.config import GeneratedCorpus
from retort.corpus.language.generated import generate


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--pairs", type=int, default=4000)
    arguments.add_argument("source", type=Path)
    arguments.add_argument("target", type=Path)
    args = arguments.parse_args()
    pairs = generate(GeneratedCorpus(kind="generated", train_pairs=args.pairs))["train"]
    for path, lines in zip((args.source, args.target), zip(*pairs, strict=True), strict=True):
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
