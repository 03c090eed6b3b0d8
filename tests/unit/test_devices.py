"""No tensor of one device meets one of another: what a GPU would refuse, found without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from retort.config import ObjectiveSection, SearchSection, SelfPaced
from retort.models.kernels import MASKED, attend, fused_attention
from retort.objectives.base import load_objective
from retort.search.base import run_search
from retort.training.weighting import Weighting
from tests.unit.fakes_devices import FAR, DevicesMeet, FakeDevice, mark_far
from tests.unit.fakes_models import padded
from tests.unit.fakes_objectives import OBJECTIVE_CASES, SEARCH_CASES
from tests.unit.fakes_training import OBJECTIVES, sequences, small_model, trainer
from tests.unit.objectives.test_every_objective import SOURCES, TARGETS, pairs_for, step_of
from tests.unit.search.test_every_search import objectives_of

DEVICE = torch.device("cpu")


@pytest.mark.parametrize("options", OBJECTIVE_CASES.values(), ids=list(OBJECTIVE_CASES))
def test_losses_likelihoods_and_agreements_stay_on_the_model_s_device(options: ObjectiveSection) -> None:
    model, step, module = small_model(options, dropout=0.1), step_of(options), load_objective(options.name)
    mark_far(model)
    if step.teacher is not None:
        mark_far(step.teacher)
    with FakeDevice():
        pairs = pairs_for(options, SOURCES, TARGETS).to(DEVICE)
        loss = module.compute(model.train(), pairs, options, step)
        torch.stack([loss.total, *loss.parts.values()])  # as the training loop does
        loss.total.backward()
        module.compute(model.eval(), pairs, options, step)
        if options.pretrains:
            module.encoder_gap(model, pairs, options, step)
        else:
            module.log_likelihood(model, pairs, options)
        if options.measures_agreement:
            module.agreement(model, pairs, options)
        if options.weighs_samples:
            weighting = Weighting(options, paced=SelfPaced(warmup=0, end=0.5, random=not options.measures_agreement))
            assert len(weighting(model, pairs, step, {}).source_bs) < len(SOURCES)


@pytest.mark.parametrize("options", SEARCH_CASES.values(), ids=list(SEARCH_CASES))
def test_searches_stay_on_the_model_s_device(options: SearchSection) -> None:
    teacher = small_model(OBJECTIVE_CASES["autoregressive"], seed=9).eval() if options.needs_teacher else None
    if teacher:
        mark_far(teacher)
    for objective in objectives_of(options.kind):
        case = OBJECTIVE_CASES[objective.only_value("name")]
        model = small_model(case).eval()
        mark_far(model)
        with FakeDevice():
            run_search(model, padded(SOURCES).to(DEVICE), options, teacher)


@pytest.mark.parametrize("name", ["autoregressive", "janus", "glat_ctc", "dag"])
def test_updates_states_and_validations_stay_on_the_model_s_device(name: str, tmp_path: Path) -> None:
    search = next(iter(OBJECTIVES[name].usual_searches.values()))
    for updates in (2, 1):
        own = trainer(
            tmp_path, name, sequences(40, 1), sequences(8, 2), search, dropout=0.1, max_updates=8, warmup=1
        )  # fmt: skip
        mark_far(own.model)
        flat = own.optimiser
        for tensor in (flat.master, flat.weights, flat.gradients, flat.total, *flat.groups):
            tensor.place = FAR  # type: ignore[attr-defined]
        with FakeDevice():
            own._resume()
            work = own._work()
            for _ in range(updates):
                own._update(work)
            own.save()
            own.validator(own.model)
    assert own.progress.update == 3


MISTAKES: list[tuple[str, Callable[[Tensor, Tensor], object]]] = [
    ("two devices", lambda far, near: far + near),
    ("two devices", lambda far, near: torch.where(near > 0, far, far)),
    ("two devices", lambda far, near: far.masked_fill(near > 0, 0.0)),
    ("two devices", lambda far, near: torch.cat([far, torch.zeros(2)])),
    ("two devices", lambda far, near: torch.stack([far.sum(), torch.tensor(2.0)])),
    ("two devices", lambda far, near: far.gather(0, torch.arange(2))),
    ("call cpu", lambda far, near: far.numpy()),
    ("call cpu", lambda far, near: np.asarray(far)),
    ("indexed by", lambda far, near: near[far > 0]),
    ("generator", lambda far, near: torch.rand(2, generator=torch.Generator(), device=far.device)),
]
"""What a GPU refuses, each with what the error says."""


@pytest.mark.parametrize(("message", "mistake"), MISTAKES)
def test_mistakes_are_seen(message: str, mistake: Callable[[Tensor, Tensor], object]) -> None:
    with FakeDevice(), pytest.raises(DevicesMeet, match=message):
        mistake(torch.ones(3).to(DEVICE), torch.ones(3))


def test_what_a_gpu_allows_is_no_mistake() -> None:
    with FakeDevice():
        far, near = torch.ones(3).to(DEVICE), torch.ones(3)
        results = (
            far + torch.tensor(2.0),
            far[near > 0],
            far.cpu() + near,
            near.to(DEVICE) + far,
            far.clone().copy_(near),
        )
        assert [tensor.place for tensor in results] == [FAR, FAR, "near", FAR, FAR]  # type: ignore[attr-defined]


@pytest.mark.parametrize("training", [True, False])
def test_torch_s_attention_which_a_gpu_uses_is_ours(training: bool) -> None:
    """Values and gradients, of the bias too, which hides positions and may be one row for all queries."""
    torch.manual_seed(1)
    query, key, value = (torch.randn(6, n, 8, requires_grad=True) for n in (5, 7, 7))
    for size in ((6, 1, 7), (6, 5, 7), (1, 5, 7)):
        bias = torch.zeros(size).masked_fill(torch.rand(size) < 0.3, MASKED)
        bias = (bias + torch.randn(size)).requires_grad_()
        scaled = query * query.shape[-1] ** -0.5
        ours = attend(query, key, value, bias, training=training)
        theirs = fused_attention(scaled, key, value, bias)
        torch.testing.assert_close(ours, theirs)
        inputs: list[Tensor] = [query, key, value, bias]
        for found, expected in zip(
            *(torch.autograd.grad(x.square().sum(), inputs) for x in (ours, theirs)), strict=True
        ):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
