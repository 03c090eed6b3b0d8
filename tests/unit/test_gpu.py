"""What a CUDA device computes is what the CPU computes. These tests need one; ``test_devices.py`` does not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from retort.config import ObjectiveSection, SearchSection
from retort.models.base import EncoderDecoder
from retort.models.kernels import MASKED, attend, dropout, rewound_dropout
from retort.objectives.base import Step, load_objective
from retort.search.base import run_search
from retort.training.optimiser import FlatOptimiser
from tests.unit.fakes_models import padded
from tests.unit.fakes_objectives import OBJECTIVE_CASES, SEARCH_CASES
from tests.unit.fakes_training import OBJECTIVES, sequences, small_model, trainer
from tests.unit.objectives.test_every_objective import SOURCES, TARGETS, pairs_for
from tests.unit.search.test_every_search import objectives_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
every_objective = pytest.mark.parametrize("options", OBJECTIVE_CASES.values(), ids=list(OBJECTIVE_CASES))


def lively(options: ObjectiveSection, device: torch.device, seed: int = 1) -> EncoderDecoder:
    """A model without dropout whose distributions are not flat; equal weights on both devices."""
    model = small_model(options, seed=seed)
    with torch.no_grad():
        model.embeddings.output.mul_(3)
    return model.to(device)


def step_on(options: ObjectiveSection, device: torch.device) -> Step:
    teacher = lively(OBJECTIVE_CASES["autoregressive"], device, seed=9).eval() if options.needs_teacher else None
    return Step(torch.Generator().manual_seed(1), 0.9, teacher)  # type: ignore[arg-type]


@every_objective
@pytest.mark.parametrize("training", [True, False])
def test_losses_and_gradients_are_the_cpu_s(options: ObjectiveSection, training: bool) -> None:
    found = []
    for device in (CPU, CUDA):
        model = lively(options, device).train(training)
        pairs = pairs_for(options, SOURCES, TARGETS).to(device)
        loss = load_objective(options.name).compute(model, pairs, options, step_on(options, device))
        loss.total.backward()
        gradients = [p.grad.norm().item() for p in model.parameters() if p.grad is not None]
        found.append([loss.total.item(), *(float(part) for part in loss.parts.values()), *gradients])
    assert found[1] == pytest.approx(found[0], rel=1e-3, abs=1e-4)


@every_objective
def test_a_few_updates_in_bfloat16_stay_finite(options: ObjectiveSection) -> None:
    from retort.config import Training

    model = lively(options, CUDA).train()
    optimiser = FlatOptimiser(model, Training(learning_rate=0.01, warmup=1, max_updates=10), torch.bfloat16)
    step = step_on(options, CUDA)
    if step.teacher is not None:
        step.teacher.to(torch.bfloat16)
    for update in range(1, 4):
        pairs = pairs_for(options, SOURCES, TARGETS).to(CUDA)
        load_objective(options.name).compute(model, pairs, options, step).total.backward()
        optimiser.collect()
        assert math.isfinite(optimiser.step(update))


@pytest.mark.parametrize("options", SEARCH_CASES.values(), ids=list(SEARCH_CASES))
def test_searches_find_what_the_cpu_finds(options: SearchSection) -> None:
    for objective in objectives_of(options.kind):
        case, found = OBJECTIVE_CASES[objective.only_value("name")], []
        for device in (CPU, CUDA):
            teacher = lively(OBJECTIVE_CASES["autoregressive"], device, 9).eval() if options.needs_teacher else None
            best = run_search(lively(case, device).eval(), padded(SOURCES).to(device), options, teacher)
            found.append([hypotheses[0].tokens for hypotheses in best])
        assert found[0] == found[1], objective.only_value("name")


@pytest.mark.parametrize("name", ["autoregressive", "ctc", "dag", "janus"])
def test_a_training_learns_is_saved_and_goes_on(name: str, tmp_path: Path) -> None:
    search, losses = next(iter(OBJECTIVES[name].usual_searches.values())), []
    for updates in (20, 40):
        own = trainer(
            tmp_path, name, sequences(400, 1), sequences(20, 2), search, dropout=0.1, max_updates=100, warmup=1,
            learning_rate=0.01,
        )  # fmt: skip
        own.model.to(CUDA)
        own.optimiser = FlatOptimiser(own.model, own.settings, torch.float32)
        own._resume()
        losses.append(own.validator.loss(own.model, own.validator.corpus)["loss"])
        work = own._work()
        while own.progress.update < updates:
            own._update(work)
        own.save()
        losses.append(own.validator.loss(own.model, own.validator.corpus)["loss"])
        own.model.train()
    assert losses[1] == pytest.approx(losses[2], rel=1e-5), "what was saved"
    assert losses[3] < losses[0]


def test_dropout_can_be_rewound() -> None:
    x = torch.ones(1000, device=CUDA)
    with rewound_dropout(CUDA):
        first = dropout(x, 0.3, True)
    assert torch.equal(first, dropout(x, 0.3, True)) and not torch.equal(first, dropout(x, 0.3, True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_and_its_gradients_are_the_cpu_s(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    tensors = [torch.randn(6, n, 16) for n in (5, 7, 7)]
    for rows in (1, 5):
        hidden = torch.zeros(6, rows, 7).masked_fill(torch.rand(6, rows, 7) < 0.3, MASKED)
        found = []
        for device, kind in ((CPU, torch.float32), (CUDA, dtype)):
            own = [x.to(device, kind).requires_grad_() for x in tensors]
            bias = (hidden + 0.5).to(device, kind).requires_grad_()
            query, key, value = own
            output = attend(query, key, value, bias, training=True)
            gradients = torch.autograd.grad(output.float().square().sum(), [*own, bias])
            found.append([x.float().cpu() for x in (output, *gradients)])
        tolerance = 1e-3 if dtype == torch.float32 else 0.1
        for cpu, cuda in zip(*found, strict=True):
            torch.testing.assert_close(cuda, cpu, rtol=tolerance, atol=tolerance)
