"""The E-step of the EM loop: decoding n-best candidates, and scoring them with a parallel model.

    python benchmarks/candidate_decoding.py --teacher results/multi30k-en-de-em/systems/teacher/seed1 \\
        --student results/multi30k-en-de-em/systems/em1/seed1 \\
        --corpus results/multi30k-en-de-em/corpus/train.parquet

Candidate decoding is what the loop costs most. It is timed for several sizes of a batch and both precisions, beside the
beam of 5 that distils; the settings take turns so that a busy machine slows all of them. Prints a table, then
one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from retort.config import Beam
from retort.data.batches import Ragged
from retort.data.parquet import read_table
from retort.data.tables import CORPUS
from retort.distillation.likelihood import log_likelihoods
from retort.models.checkpoint import load_checkpoint
from retort.search.decoding import translate_texts
from retort.training.device import PRECISIONS, prepare_device

Setting = tuple[str, int, int]
"""Precision, beam size, padded source tokens of a batch."""


def main(args: argparse.Namespace) -> None:
    device = prepare_device(args.threads)
    texts = read_table(args.corpus, CORPUS, ["source"])["source"].to_pylist()
    step = max(1, len(texts) // args.sentences)
    texts = texts[::step][: args.sentences]
    settings: list[Setting] = [("float32", 5, 4096)]
    settings += [(p, args.candidates, tokens) for p in ("float32", "bfloat16") for tokens in (256, 512, 1024, 4096)]
    teachers = {p: load_checkpoint(args.teacher, device, PRECISIONS[p]) for p in PRECISIONS}
    seconds: dict[Setting, list[float]] = {setting: [] for setting in settings}
    found: Any = None
    for _ in range(args.rounds):
        for setting in settings:
            precision, beam, tokens = setting
            teacher = teachers[precision]
            start = time.perf_counter()
            found = translate_texts(
                teacher.model,
                teacher.vocabulary,
                texts=texts,
                search=Beam(kind="beam", beam_size=beam),
                batch_tokens=tokens,
            )
            seconds[setting].append(time.perf_counter() - start)
    rates = {setting: len(texts) / statistics.median(taken) for setting, taken in seconds.items()}
    scoring = score_rate(args, device, texts=texts, found=found)
    base = rates[settings[0]]
    print(f"{'precision':10} {'beam':>5} {'batch tokens':>13} {'sentences/s':>12} {'of beam 5':>10}")
    for (precision, beam, tokens), rate in rates.items():
        print(f"{precision:10} {beam:5} {tokens:13} {rate:12.1f} {rate / base:10.2f}")
    print(f"scoring with the parallel model: {scoring:.0f} candidates/s")
    rows = [{"precision": p, "beam": b, "batch_tokens": t, "sentences_per_second": r} for (p, b, t), r in rates.items()]
    print(json.dumps({"sentences": len(texts), "decoding": rows, "scored_candidates_per_second": scoring}))


def score_rate(args: argparse.Namespace, device: Any, texts: list[str], found: Any) -> float:
    """Candidates a second that the student gives a log-likelihood."""
    student = load_checkpoint(args.student, device)
    source = Ragged.from_lists(student.vocabulary.encode_source(texts))
    target = Ragged.from_lists([h.tokens for best in found for h in best])
    row = np.repeat(np.arange(len(texts)), [len(best) for best in found])
    start = time.perf_counter()
    log_likelihoods(student.model, student.objective, source=source, target=target, source_row=row)
    return len(target) / (time.perf_counter() - start)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--teacher", type=Path, required=True, help="autoregressive checkpoint")
    arguments.add_argument("--student", type=Path, required=True, help="parallel checkpoint")
    arguments.add_argument("--corpus", type=Path, required=True, help="corpus table of the sources")
    arguments.add_argument("--sentences", type=int, default=512)
    arguments.add_argument("--candidates", type=int, default=20)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--threads", type=int, default=1)
    main(arguments.parse_args())
