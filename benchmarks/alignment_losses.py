"""Cost of the alignment losses in training, against position-wise cross entropy.

    python benchmarks/alignment_losses.py
    python benchmarks/alignment_losses.py --precision float32 --repeats 3

Forward and backward pass of a training step (all of the model and its loss, without the optimiser), and of the loss
alone, from decoder states that are given: projection on the vocabulary, alignment, and their gradients. AXE is timed
with as many slots as the target is long and with a tenth more; CTC has two slots a source token, and so a decoder twice
as long; "torch ctc" is torch.nn.functional.ctc_loss over the logits of the whole vocabulary, on the same slots. The
shape, the batches and the made-up task are those of training_speed.py.

Times are processor seconds, so that other work on the machine counts little, and all take turns on each batch; reported
are the medians, and the median ratio to cross entropy on the same batch. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from training_speed import PAIRS, SEED, SHAPES, made_up_corpus

from retort import config
from retort.data.batches import Batch, epoch_batches
from retort.data.vocabulary import BLANK, EOS, PAD
from retort.losses.base import Loss
from retort.models.kernels import reseed_dropout
from retort.models.parallel import ParallelModel
from retort.objectives.base import Step, load_objective
from retort.training.device import PRECISIONS, prepare_device

# objective, arguments of its model
OBJECTIVES: dict[str, tuple[Any, dict[str, Any]]] = {
    "cross entropy": (config.Vanilla(name="vanilla"), {}),
    "axe": (config.Axe(name="axe", length_multiplier=1.0), {"blank": True}),
    "axe, slots x 1.1": (config.Axe(name="axe", length_multiplier=1.1), {"blank": True, "length_multiplier": 1.1}),
    "oaxe": (config.Oaxe(name="oaxe"), {}),
    "ctc": (config.Ctc(name="ctc"), {"upsampling": 2}),
    "torch ctc": (None, {"upsampling": 2}),
}
BASELINE = "cross entropy"


def decoded(model: ParallelModel, batch: Batch) -> ParallelModel:
    """A copy of the model with the same weights, whose encoder and decoder have run: they return what they found."""
    fixed = copy(model)
    memory = tuple(x.detach() for x in model.encode(batch.source_bs))
    states: list[Tensor] = []

    def decode(*inputs: Tensor) -> list[Tensor]:
        if not states:
            states.extend(x.detach().requires_grad_() for x in model._decode(*inputs))
        return states

    fixed.encode = lambda source_bs: memory  # type: ignore[method-assign, assignment, return-value]
    fixed._decode = decode  # type: ignore[method-assign, assignment]
    return fixed


def torch_ctc(model: ParallelModel, batch: Batch, options: None, step: Step) -> Loss:
    """What losses/ctc.py computes where all targets fit into the slots, by torch."""
    states_btd, slots_b = model.decode_upsampled(batch.source_bs, *model.encode(batch.source_bs))
    target_bn = batch.target_bt.masked_fill(batch.target_bt == EOS, PAD)
    length_b = (target_bn != PAD).sum(1)
    log_probs_tbv = torch.log_softmax(model.logits(states_btd).float(), -1).transpose(0, 1)
    nll = functional.ctc_loss(
        log_probs_tbv, target_bn, slots_b, length_b, blank=BLANK, reduction="sum", zero_infinity=True
    )
    return Loss(nll / length_b.sum())


def losses_of(options: Any) -> Callable[..., Loss]:
    """The objective's ``compute``."""
    return torch_ctc if options is None else load_objective(options.name).compute


def seconds(model: ParallelModel, batch: Batch, options: Any) -> float:
    """Processor time of a forward and backward pass."""
    reseed_dropout(SEED)
    step = Step(torch.Generator().manual_seed(SEED))
    compute, start = losses_of(options), time.process_time()
    compute(model, batch, options, step).total.backward()
    return time.process_time() - start


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row an objective."""
    corpus = made_up_corpus(PAIRS, args.vocabulary, SEED)
    groups = epoch_batches(corpus, args.batch_tokens, seed=SEED, epoch=0)
    batches = [corpus.batch(groups[i * len(groups) // args.batches]) for i in range(args.batches)]
    models = {}
    for name, (_, choices) in OBJECTIVES.items():
        torch.manual_seed(SEED)
        shape = config.Model(**SHAPES[args.shape])
        model = ParallelModel(shape, args.vocabulary, args.vocabulary, **choices)
        models[name] = model.to(PRECISIONS[args.precision])
    times: dict[str, dict[str, list[float]]] = {part: {name: [] for name in models} for part in ("step", "loss")}
    for batch in batches:
        fixed = {name: decoded(model, batch) for name, model in models.items()}
        for turn in range(args.repeats + 1):
            for name, (options, _) in OBJECTIVES.items():
                for part, model in (("step", models[name]), ("loss", fixed[name])):
                    taken = seconds(model, batch, options)
                    if turn:  # the first one warms up
                        times[part][name].append(taken)
    rows = []
    for name in models:
        row: dict[str, Any] = {"objective": name}
        for part, own in times.items():
            ratios = [taken / base for taken, base in zip(own[name], own[BASELINE], strict=True)]
            row[f"{part}_ms"] = round(1000 * statistics.median(own[name]), 1)
            row[f"{part}_ratio"] = round(statistics.median(ratios), 2)
        rows.append(row)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="d128")
    parser.add_argument("--precision", choices=PRECISIONS, default="bfloat16")
    parser.add_argument("--vocabulary", type=int, default=6000)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    prepare_device(args.threads)
    rows = measure(args)
    print(f"{'objective':<18}{'step ms':>9}{'ratio':>7}{'loss ms':>9}{'ratio':>7}")
    for row in rows:
        numbers = f"{row['step_ms']:>9}{row['step_ratio']:>7}{row['loss_ms']:>9}{row['loss_ratio']:>7}"
        print(f"{row['objective']:<18}{numbers}")
    print(json.dumps(vars(args) | {"rows": rows}))


if __name__ == "__main__":
    main()
