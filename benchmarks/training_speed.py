"""Training speed and loss: Retort's training step against a plain PyTorch loop.

    python benchmarks/training_speed.py --shape d128 --updates 40
    python benchmarks/training_speed.py --shape d128 --vocabulary 300 --batch-tokens 1024 --updates 400 --rounds 8

The plain loop is what one writes with stock PyTorch: pre-norm layers from nn.Linear, scaled_dot_product_attention,
nn.Dropout, nn.Embedding tied to the output, logits of all positions, cross_entropy, clip_grad_norm_, torch.optim.Adam;
in float32 and under bfloat16 autocast. Retort's step is that of its training loop, in float32 and bfloat16. All start
from the same weights (their logits are checked to agree), see the same batches and settings, and count target tokens
without padding. Dropout draws different numbers, so losses agree as runs with different seeds do.

The task is made up: each source word has one translation, neighbouring words change places, the first word goes to
the end; words follow Zipf's law and lengths those of image captions in pieces (mean 16).

Each kind runs in a process of its own, with a warm-up that does not count, and they take turns, so that a busy machine
slows all of them: each turn gives a ratio to plain float32, the median ratio is reported. Prints tables, then one JSON
line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from plain_transformer import PlainTransformer
from torch import Tensor, nn
from torch.nn import functional

from retort.config import Autoregressive, Model, Training
from retort.data.batches import Batch, EncodedCorpus, Ragged, epoch_batches
from retort.data.vocabulary import PAD
from retort.losses.teacher_forcing import shifted_right
from retort.models.autoregressive import AutoregressiveModel
from retort.models.kernels import reseed_dropout
from retort.objectives.autoregressive import compute
from retort.objectives.base import Step
from retort.training.device import prepare_device
from retort.training.optimiser import FlatOptimiser, learning_rate

SHAPES: dict[str, dict[str, Any]] = {
    "d128": {"d_model": 128, "ffn": 512, "encoder_layers": 4, "decoder_layers": 4},
    "d256": {"d_model": 256, "ffn": 1024, "encoder_layers": 3, "decoder_layers": 3},
}
KINDS = ("plain float32", "plain autocast", "Retort float32", "Retort bfloat16")
OBJECTIVE = Autoregressive(name="autoregressive")
FIRST_WORD = 6
PAIRS, HELD_OUT = 20_000, 300
WARM_UP = 2
SEED = 1
WINDOWS = 6


@dataclass(frozen=True)
class Task:
    """What every process is given."""

    shape: Model
    vocabulary: int
    settings: Training
    threads: int


@dataclass(frozen=True)
class Turn:
    """Some updates of one kind."""

    losses: list[float]
    tokens: int
    seconds: float
    processor_seconds: float

    @property
    def speed(self) -> float:
        return self.tokens / self.seconds


def made_up_corpus(pairs: int, vocabulary: int, seed: int) -> EncodedCorpus:
    """Pairs of the made-up translation task, as token ids."""
    rng = np.random.default_rng(seed)
    words = vocabulary - FIRST_WORD
    translation = np.random.default_rng(0).permutation(words)
    sources, targets = [], []
    for length in np.clip(rng.gamma(9.0, 16 / 9, pairs).round(), 4, 40).astype(int):
        # the inverse of a Zipf distribution's cumulative function
        source = (words ** rng.random(length)).astype(int) - 1
        target = translation[source]
        even = length - length % 2
        target[:even] = target[:even].reshape(-1, 2)[:, ::-1].reshape(-1)
        sources.append((source + FIRST_WORD).tolist())
        targets.append((np.roll(target, -1) + FIRST_WORD).tolist())
    return EncodedCorpus(np.arange(pairs), Ragged.from_lists(sources), Ragged.from_lists(targets))


class PlainTrainer:
    """The plain loop."""

    def __init__(self, model: AutoregressiveModel, task: Task, autocast: bool) -> None:
        self.model, self.settings, self.autocast = PlainTransformer(model), task.settings, autocast
        self.adam = torch.optim.Adam(self.model.parameters(), betas=task.settings.betas, eps=task.settings.epsilon)

    def loss(self, batch: Batch, smoothing: float) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            logits_btv = self.model(batch.source_bs, shifted_right(batch.target_bt))
        flat = logits_btv.float().flatten(0, 1)
        target = batch.target_bt.flatten()
        return functional.cross_entropy(flat, target, ignore_index=PAD, label_smoothing=smoothing)

    def update(self, batch: Batch, number: int) -> float:
        for group in self.adam.param_groups:
            group["lr"] = learning_rate(self.settings, number)
        self.adam.zero_grad()
        loss = self.loss(batch, OBJECTIVE.label_smoothing)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.adam.step()
        return loss.item()

    def held_out(self, batch: Batch) -> float:
        return self.loss(batch, 0.0).item()


class RetortTrainer:
    """One update as in retort.training.loop."""

    def __init__(self, model: AutoregressiveModel, task: Task, dtype: torch.dtype) -> None:
        self.model, self.optimiser = model, FlatOptimiser(model, task.settings, dtype)

    def update(self, batch: Batch, number: int) -> float:
        reseed_dropout(SEED, number)
        loss = compute(self.model, batch, options=OBJECTIVE, step=Step(torch.Generator()))
        value = loss.total.item()
        loss.total.backward()
        self.optimiser.collect()
        float(self.optimiser.step(number))
        return value

    def held_out(self, batch: Batch) -> float:
        return float(compute(self.model, batch, options=OBJECTIVE, step=Step(torch.Generator())).parts["nll"])


def work(kind: str, task: Task, connection: Connection) -> None:
    """A process: trains for so many updates as it is told, over and over; 0 asks for the held-out loss and the end."""
    torch.manual_seed(SEED)
    model = AutoregressiveModel(task.shape, task.vocabulary, task.vocabulary)
    trainer: PlainTrainer | RetortTrainer
    if kind.startswith("plain"):
        torch.set_num_threads(task.threads)
        trainer = PlainTrainer(model, task, kind.endswith("autocast"))
        check_equal(model, trainer.model, task.vocabulary)
    else:
        prepare_device(task.threads)
        trainer = RetortTrainer(model, task, torch.float32 if kind.endswith("float32") else torch.bfloat16)
    corpus = made_up_corpus(PAIRS, task.vocabulary, seed=SEED)
    groups = epoch_batches(corpus, task.settings.batch_tokens, seed=SEED, epoch=0)
    number = 0
    while count := connection.recv():
        trainer.model.train()
        batches = [corpus.batch(groups[(number + i) % len(groups)]) for i in range(count)]
        start, processor = time.perf_counter(), time.process_time()
        losses = []
        for batch in batches:
            number += 1
            losses.append(trainer.update(batch, number))
        elapsed, processor = time.perf_counter() - start, time.process_time() - processor
        connection.send(
            Turn(losses, sum(batch.target_tokens for batch in batches), seconds=elapsed, processor_seconds=processor)
        )
    trainer.model.eval()
    held_out = made_up_corpus(HELD_OUT, task.vocabulary, seed=SEED + 1)
    with torch.no_grad():
        connection.send(mean_loss(trainer.held_out, held_out, task.settings.batch_tokens))


def check_equal(model: AutoregressiveModel, plain: PlainTransformer, vocabulary: int) -> None:
    """Stop unless both models compute the same logits."""
    corpus = made_up_corpus(16, vocabulary, seed=SEED + 2)
    batch = corpus.batch(np.arange(len(corpus)))
    given = shifted_right(batch.target_bt)
    model.eval(), plain.eval()
    with torch.no_grad():
        expected = model.logits(model(batch.source_bs, given))
        difference = (plain(batch.source_bs, given) - expected)[batch.target_bt != PAD].abs().max()
    if difference > 1e-3 * expected.abs().max():
        raise SystemExit(f"the plain model is not the same function: logits differ by {difference}")


def mean_loss(loss: Callable[[Batch], float], corpus: EncodedCorpus, batch_tokens: int) -> float:
    """Nats a target token."""
    nats = tokens = 0.0
    for rows in epoch_batches(corpus, batch_tokens, seed=SEED, epoch=0):
        batch = corpus.batch(rows)
        nats += loss(batch) * batch.target_tokens
        tokens += batch.target_tokens
    return nats / tokens


def train_in_turns(task: Task, kinds: list[str], rounds: int) -> tuple[dict[str, list[Turn]], dict[str, float]]:
    """All turns after the warm-up, whose losses are kept, and the held-out losses."""
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for kind in kinds:
        pipes[kind], other = context.Pipe()
        context.Process(target=work, args=(kind, task, other), daemon=True).start()
    turns: dict[str, list[Turn]] = {kind: [] for kind in kinds}
    left = task.settings.max_updates - WARM_UP
    counts = [WARM_UP, *(left // rounds + (i < left % rounds) for i in range(rounds))]
    for count in counts:
        for kind, pipe in pipes.items():
            pipe.send(count)
            turns[kind].append(pipe.recv())
    held_out = {}
    for kind, pipe in pipes.items():
        pipe.send(0)
        held_out[kind] = pipe.recv()
    return turns, held_out


def summary(turns: dict[str, list[Turn]], held_out: dict[str, float], baseline: str) -> list[dict[str, Any]]:
    """One row a kind."""
    rows = []
    for kind, own in turns.items():
        timed = list(zip(turns[baseline][1:], own[1:], strict=True))
        rows.append(
            {
                "kind": kind,
                "tokens_per_second": round(statistics.median(turn.speed for turn in own[1:])),
                "tokens_per_processor_second": round(
                    statistics.median(turn.tokens / turn.processor_seconds for turn in own[1:])
                ),
                "ratio": round(statistics.median(mine.speed / base.speed for base, mine in timed), 2),
                "processor_ratio": round(
                    statistics.median(base.processor_seconds / mine.processor_seconds for base, mine in timed), 2
                ),
                "held_out_nats": round(held_out[kind], 4),
            }
        )
    return rows


def curve(losses: list[float]) -> list[dict[str, float]]:
    """Mean training loss over at most WINDOWS equal windows; each is named by its last update."""
    bounds = np.linspace(0, len(losses), min(WINDOWS, len(losses)) + 1).astype(int)
    return [
        {"update": int(end), "loss": round(float(np.mean(losses[first:end])), 4)}
        for first, end in itertools.pairwise(bounds)
    ]


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="d128")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5, help="turns the updates are divided into")
    parser.add_argument("--vocabulary", type=int, default=6000)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    settings = Training(
        max_updates=args.updates, batch_tokens=args.batch_tokens, warmup=min(30, args.updates // 2), schedule="constant"
    )
    task = Task(Model(**SHAPES[args.shape]), args.vocabulary, settings=settings, threads=args.threads)
    turns, held_out = train_in_turns(task, args.kinds, args.rounds)
    rows = summary(turns, held_out, args.kinds[0])
    print(f"{'kind':<18}{'tokens/s':>10}{'ratio':>7}{'per CPU second':>16}{'ratio':>7}{'held-out nats':>15}")
    for row in rows:
        speeds = f"{row['tokens_per_second']:>10,}{row['ratio']:>7}{row['tokens_per_processor_second']:>16,}"
        print(f"{row['kind']:<18}{speeds}{row['processor_ratio']:>7}{row['held_out_nats']:>15}")
    curves = {kind: curve([loss for turn in own for loss in turn.losses]) for kind, own in turns.items()}
    print("\ntraining loss, mean up to update", *(f"{point['update']:>8}" for point in curves[args.kinds[0]]))
    for kind, points in curves.items():
        print(f"{kind:<32}", *(f"{point['loss']:>8.3f}" for point in points))
    print(json.dumps(vars(args) | {"model": task.shape.model_dump(), "rows": rows, "curves": curves}))


if __name__ == "__main__":
    main()
