"""What a run will cost on this machine, from the measured speed of a few updates."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping

import torch

from retort.config import Autoregressive
from retort.data.batches import Batch
from retort.data.vocabulary import EOS
from retort.models.autoregressive import AutoregressiveModel
from retort.objectives.autoregressive import compute
from retort.objectives.base import Step
from retort.training.device import precision, prepare_device
from retort.workflow.init.decisions import Decisions, model_of

SECONDS = 3.0
"""How long updates are timed, by the clock."""
FIRST_TOKEN = 8
"""Smallest id of an ordinary piece."""


def seconds_per_update(decisions: Decisions) -> float:
    """Mean time of an update of the teacher on random tokens, in lines of the text's mean length, the first one left
    out: of one thread on its processor, whatever else runs there, or of the GPU. The precision is that of trainings."""
    device, objective = prepare_device(1), Autoregressive(name="autoregressive")
    model = (
        AutoregressiveModel(model_of(decisions), decisions.vocabulary, decisions.vocabulary)
        .to(device, precision("auto", device))
        .train()
    )
    lines = max(1, decisions.batch_tokens // max(decisions.line_tokens))
    first = min(FIRST_TOKEN, decisions.vocabulary - 1)
    source, target = (torch.randint(first, decisions.vocabulary, (lines, tokens)) for tokens in decisions.line_tokens)
    source[:, -1] = target[:, -1] = EOS
    batch = Batch(torch.arange(lines), source, target).to(device)
    optimiser = torch.optim.AdamW(model.parameters())
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while len(times) < 2 or time.perf_counter() < end:
        start = clock()
        optimiser.zero_grad()
        compute(model, batch, options=objective, step=Step(torch.Generator())).total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return sum(times[1:]) / len(times[1:])


def layers_of_positions(decisions: Decisions) -> tuple[float, float]:
    """Layers times positions per token, which time grows with: of the teacher, and of all students."""

    def weight(layers: Mapping[str, int], slots: float) -> float:
        return layers["encoder_layers"] + slots * layers["decoder_layers"]

    students = (weight(s.layers(decisions.model), s.slots(decisions.slots)) for s in decisions.students)
    return weight(decisions.model, 1), sum(students)


def cost_line(decisions: Decisions) -> str:
    """Tokens, minutes and memory of the run's trainings, which are most of it."""
    trainings = 1 + len(decisions.students)
    teacher, students = layers_of_positions(decisions)
    update = seconds_per_update(decisions)
    tokens = decisions.updates * decisions.batch_tokens * trainings
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    minutes = max(1, round((1 + students / teacher) * decisions.updates * update / 60))
    return (
        f"{trainings} trainings of {decisions.updates:,} updates, {tokens / 1e6:,.1f} million tokens: about "
        f"{minutes:,} minute{'s' if minutes > 1 else ''} of one thread ({update:.2f} s per update of the "
        f"teacher, measured), and {memory / 1024:.1f} GB per training; decoding and timing come on top"
    )
