"""Decoding of training text: torch against CTranslate2 with the same results.

    python benchmarks/exact_search.py --model results/all-methods/systems/teacher/seed1 \\
        --corpus results/all-methods/corpus/train.parquet --beam-size 5 --best 1

Both decode the same blocks of 500 sources in turns, so that a busy machine slows both. Counts the sources whose lists
differ in tokens, and the ones that CTranslate2 left to torch. ``--beam-size 0`` is greedy. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from retort.config import Beam, Greedy
from retort.data.parquet import read_table
from retort.data.tables import CORPUS
from retort.export.exact_search import ExactSearch, differing
from retort.models.autoregressive import AutoregressiveModel
from retort.models.checkpoint import load_checkpoint
from retort.search.base import Hypothesis
from retort.search.decoding import decode_texts, translate_texts
from retort.training.device import prepare_device

BLOCK = 500
"""Sources of a turn."""

Lists = list[list[Hypothesis]]


def timed(decode: Callable[[list[str]], Lists], texts: list[str]) -> tuple[Lists, float]:
    """n-best lists and processor seconds."""
    start = time.process_time()
    return decode(texts), time.process_time() - start


def main(args: argparse.Namespace) -> None:
    checkpoint = load_checkpoint(args.model, prepare_device(args.threads))
    model, vocabulary = checkpoint.model, checkpoint.vocabulary
    if not isinstance(model, AutoregressiveModel):
        raise SystemExit(f"{args.model}: not an autoregressive checkpoint")
    texts = read_table(args.corpus, CORPUS, ["source"])["source"].to_pylist()[: args.sentences]
    search: Beam | Greedy = Greedy(kind="greedy")
    if args.beam_size:
        search = Beam(kind="beam", beam_size=args.beam_size, length_penalty=args.length_penalty)
    exact = ExactSearch(
        model, vocabulary, search=search, batch_tokens=args.batch_tokens, best=args.best, threads=args.threads
    )
    decoders: dict[str, Callable[[list[str]], Lists]] = {
        "torch": lambda block: translate_texts(
            model, vocabulary, texts=block, search=search, batch_tokens=args.batch_tokens
        ),
        "ctranslate2": lambda block: decode_texts(
            vocabulary, block, config=model.config, decode_rows=lambda s, _: exact.decode(s)
        ),
    }
    seconds = dict.fromkeys(decoders, 0.0)
    different = 0
    for start in range(0, len(texts), BLOCK):
        lists = {}
        for name, decode in decoders.items():
            lists[name], taken = timed(decode, texts[start : start + BLOCK])
            seconds[name] += taken
        different += len(differing(lists["torch"], lists["ctranslate2"], args.best))
    rates = {f"{name}_per_cpu_second": round(len(texts) / taken, 1) for name, taken in seconds.items()}
    counts = {"sources": len(texts), "different": different, "left_to_torch": exact.left_to_torch}
    ratio = round(seconds["torch"] / seconds["ctranslate2"], 2)
    print(json.dumps({"search": search.model_dump(), "best": args.best, **counts, **rates, "ratio": ratio}))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", type=Path, required=True, help="directory of an autoregressive checkpoint")
    arguments.add_argument("--corpus", type=Path, required=True, help="corpus table whose sources are decoded")
    arguments.add_argument("--sentences", type=int, default=8000)
    arguments.add_argument("--beam-size", type=int, default=5)
    arguments.add_argument("--length-penalty", type=float, default=1.0)
    arguments.add_argument("--best", type=int, default=1, help="hypotheses needed of each source")
    arguments.add_argument("--batch-tokens", type=int, default=8192)
    arguments.add_argument("--threads", type=int, default=1)
    main(arguments.parse_args())
