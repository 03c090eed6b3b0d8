"""Cost of a training step of ImitKD over one of SeqKD, and where it goes.

    python benchmarks/imitation_step.py
    python benchmarks/imitation_step.py --share 0.005 --repeats 3

A student of two layers a side and a teacher of four, with random weights, on the made-up task of training_speed.py.
Timed are forward and backward pass and loss (not the optimiser), the student's own outputs, and the teacher's pass; or,
where its --top-k best tokens a position are stored, finding them in the table. The student never says eos, and its
outputs are cut at 0.4 x source length + 10 tokens, some 16 as the targets have; of the sentences all but --share get
such prefixes. Its default is the mean of an exponential schedule to 1/200.

Times are processor seconds, so that other work on the machine counts little, and all methods take turns on each batch;
reported are medians over batches. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from training_speed import PAIRS, SEED, SHAPES, made_up_corpus

from retort.config import Imitation, Mixture, Model, Rollout
from retort.data.batches import Batch, EncodedCorpus, epoch_batches
from retort.data.teacher_labels import StoredLabels, TopK
from retort.data.vocabulary import EOS
from retort.models.autoregressive import AutoregressiveModel
from retort.models.kernels import reseed_dropout
from retort.objectives.base import Step
from retort.objectives.imitation import compute, prepare
from retort.training.device import PRECISIONS, precision, prepare_device

PARTS = ("rollouts", "teacher", "rest")
OUTPUT_RATIO = 0.4


class Timed:
    """A teacher, or its stored labels, that counts its processor seconds."""

    def __init__(self, made: Any) -> None:
        self.made, self.seconds = made, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.made, name)

    def __call__(self, source_bs: Tensor, input_bt: Tensor) -> Tensor:
        return self._timed(self.made, source_bs, input_bt)

    def of(self, ids: Tensor) -> TopK:
        return self._timed(self.made.of, ids)

    def _timed(self, function: Any, *arguments: Tensor) -> Any:
        start = time.process_time()
        result = function(*arguments)
        self.seconds += time.process_time() - start
        return result


def made_up_labels(corpus: EncodedCorpus, vocabulary: int, top_k: int) -> StoredLabels:
    """Any tokens with any probabilities."""
    rng = np.random.default_rng(SEED)
    offsets = np.concatenate([[0], np.cumsum(corpus.target.lengths + 1)])
    tokens_nk = rng.integers(0, vocabulary, (offsets[-1], top_k), np.int32)
    return StoredLabels(
        corpus.ids,
        offsets,
        tokens_nk=tokens_nk,
        probabilities_nl=rng.random((offsets[-1], top_k + 1)).astype(np.float16),
    )


def methods(share: float, shared: Sequence[int], top_k: int) -> dict[str, Imitation]:
    """By name; SeqKD is imitation at the data's prefixes with hard labels."""
    data, mixed = Mixture(schedule="constant", share=1), Mixture(schedule="constant", share=share)
    found = {"seqkd": Imitation(name="imitation", labels="hard", beta=data)}
    found["seqkd + full"] = Imitation(name="imitation", beta=data)
    found[f"seqkd + top {top_k}"] = Imitation(name="imitation", beta=data, top_k=top_k)
    found[f"seqkd + stored top {top_k}"] = Imitation(name="imitation", labels="stored", beta=data, top_k=top_k)
    for updates in shared:
        kinds: list[tuple[Literal["hard", "full"], str]] = [("hard", ""), ("full", " + full")]
        for labels, suffix in kinds:
            rollout = Rollout(max_ratio=OUTPUT_RATIO, updates=updates)
            options = Imitation(name="imitation", labels=labels, beta=mixed, rollout=rollout)
            found[f"imitkd{suffix}, P = {updates}"] = options
    return found


def seconds_of(
    student: AutoregressiveModel, teacher: Timed, labels: Timed, batches: Sequence[Batch], options: Imitation
) -> list[dict[str, float]]:
    """Processor seconds of each batch; those of ``rollout.updates`` batches are prepared together."""
    found = []
    for first in range(0, len(batches), options.rollout.updates):
        group = batches[first : first + options.rollout.updates]
        steps = [
            Step(torch.Generator().manual_seed(SEED + i), 0.5, cast("AutoregressiveModel", teacher))
            for i in range(len(group))
        ]
        start = time.process_time()
        prepared = prepare(student, group, options=options, steps=steps)
        rollouts = (time.process_time() - start) / len(group)
        for batch, step, prefixes in zip(group, steps, prepared, strict=True):
            reseed_dropout(SEED)
            teacher.seconds, labels.seconds, start = 0.0, 0.0, time.process_time()
            compute(
                student,
                batch,
                options=options,
                step=replace(step, prepared=prefixes, labels=cast("StoredLabels", labels)),
            ).total.backward()
            asked = teacher.seconds + labels.seconds
            rest = time.process_time() - start - asked
            found.append({"rollouts": rollouts, "teacher": asked, "rest": rest})
    return found


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a method."""
    corpus = made_up_corpus(PAIRS, args.vocabulary, SEED)
    groups = epoch_batches(corpus, args.batch_tokens, seed=SEED, epoch=0)
    batches = [corpus.batch(groups[i * len(groups) // args.batches]) for i in range(args.batches)]
    torch.manual_seed(SEED)
    size, dtype = args.vocabulary, args.dtype
    shape = Model(**{**SHAPES[args.shape], "tied": "none"})
    small = shape.model_copy(update={"encoder_layers": 2, "decoder_layers": 2})
    teacher = Timed(AutoregressiveModel(shape, size, size).to(dtype).eval())
    student = AutoregressiveModel(small, size, size).to(dtype).train()
    student.embeddings.output.data[EOS] = 0.0
    labels = Timed(made_up_labels(corpus, size, args.top_k))
    times: dict[str, list[dict[str, float]]] = {}
    for turn in range(args.repeats + 1):
        for name, options in methods(args.share, args.shared, args.top_k).items():
            found = seconds_of(student, teacher, labels=labels, batches=batches, options=options)
            if turn:  # the first one warms up
                times.setdefault(name, []).extend(found)
    base = statistics.median(sum(parts.values()) for parts in times["seqkd"])
    rows = []
    for name, own in times.items():
        total = statistics.median(sum(parts.values()) for parts in own)
        row: dict[str, Any] = {"method": name, "step_ms": round(1000 * total, 1), "ratio": round(total / base, 2)}
        rows.append(row | {f"{p}_ms": round(1000 * statistics.median(x[p] for x in own), 1) for p in PARTS})
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="d128")
    parser.add_argument("--precision", choices=[*PRECISIONS, "auto"], default="auto")
    parser.add_argument("--vocabulary", type=int, default=6000)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.188, help="of the sentences, with the data's prefixes")
    parser.add_argument("--shared", type=int, nargs="+", default=[1, 4], help="P: updates that one call serves")
    parser.add_argument("--top-k", type=int, default=8, help="of the teacher's tokens, where not all are used")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.dtype = precision(args.precision, prepare_device(args.threads))
    rows = measure(args)
    print(f"{'method':<26}{'step ms':>9}{'ratio':>7}" + "".join(f"{part + ' ms':>14}" for part in PARTS))
    for row in rows:
        parts = "".join(f"{row[f'{part}_ms']:>14}" for part in PARTS)
        print(f"{row['method']:<26}{row['step_ms']:>9}{row['ratio']:>7}{parts}")
    print(json.dumps({**vars(args), "dtype": str(args.dtype), "rows": rows}))


if __name__ == "__main__":
    main()
