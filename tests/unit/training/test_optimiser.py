"""The flat optimiser against torch's own AdamW on the same gradients, and the learning-rate schedules."""

import math

import pytest
import torch
from torch import nn

from retort.config import Training
from retort.training.optimiser import FlatOptimiser, learning_rate

UPDATES = 6


class Tied(nn.Module):
    """A matrix used twice under two names, a matrix and two vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(7, 5))
        self.middle, self.norm = nn.Linear(5, 5), nn.LayerNorm(5)
        self.output = self.embedding
        self.positions: torch.Tensor
        self.register_buffer("positions", torch.randn(3, 5))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.middle(self.embedding[ids] + self.positions[0]))
        return hidden @ self.output.t()


def settings(**changes) -> Training:
    return Training(**{"max_updates": 100, "warmup": 4, "learning_rate": 0.05, "clip": 0.5, **changes})


def model() -> Tied:
    torch.manual_seed(1)
    return Tied()


def loss(net: nn.Module, part: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(part)
    ids, target = torch.randint(0, 7, (2, 6), generator=generator)
    return nn.functional.cross_entropy(net(ids).float(), target) * 3


def reference_updates(net: nn.Module, training: Training, decay_all: bool = False) -> list[dict[str, torch.Tensor]]:
    """Weights after each update of torch.optim.AdamW with clip_grad_norm_."""
    named = dict(net.named_parameters())
    matrices = [p for p in named.values() if p.dim() > 1 or decay_all]
    vectors = [p for p in named.values() if p.dim() <= 1 and not decay_all]
    groups = [{"params": matrices, "weight_decay": training.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=0.0, betas=training.betas, eps=training.epsilon)
    weights = []
    for update in range(1, UPDATES + 1):
        adam.zero_grad()
        loss(net, update).backward()
        if training.clip:
            nn.utils.clip_grad_norm_(named.values(), training.clip)
        for group in adam.param_groups:
            group["lr"] = learning_rate(training, update)
        adam.step()
        weights.append({name: p.detach().clone() for name, p in named.items()})
    return weights


def flat_update(net: nn.Module, optimiser: FlatOptimiser, update: int) -> float:
    loss(net, update).backward()
    optimiser.collect()
    return optimiser.step(update)


@pytest.mark.parametrize(
    "changes", [{}, {"weight_decay": 0.3}, {"clip": 0.0}, {"schedule": "cosine"}, {"betas": (0.5, 0.7)}]
)
def test_follows_adamw_with_clipping_step_by_step(changes):
    training = settings(**changes)
    expected = reference_updates(model(), training)
    net = model()
    optimiser = FlatOptimiser(net, training, torch.float32)
    for update, weights in enumerate(expected, start=1):
        flat_update(net, optimiser, update)
        named = optimiser.named_master(net)
        assert set(named) == set(weights)
        for name, value in weights.items():
            torch.testing.assert_close(named[name], value, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(net.get_parameter(name).data, named[name], rtol=0, atol=0)


def test_the_comparison_notices_decay_of_vectors():
    training = settings(weight_decay=0.3)
    right, wrong = reference_updates(model(), training)[-1], reference_updates(model(), training, decay_all=True)[-1]
    assert not torch.allclose(right["norm.weight"], wrong["norm.weight"], rtol=1e-3)


def test_vectors_do_not_decay():
    net = model()
    optimiser = FlatOptimiser(net, settings(weight_decay=0.5), torch.float32)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimiser.step(4)  # no gradient at all: only decay moves weights
    for name, parameter in net.named_parameters():
        factor = 1 - 0.05 * 0.5 if parameter.dim() > 1 else 1.0
        torch.testing.assert_close(parameter.data, before[name] * factor)


def test_moments_are_of_the_clipped_gradient():
    optimiser = FlatOptimiser(net := model(), settings(clip=1e-3), torch.float32)
    flat_update(net, optimiser, 1)
    mean = torch.cat([moments["exp_avg"] for moments in optimiser.moments])
    # which Adam's update alone does not show, as it divides by the size of gradients
    assert float(mean.norm()) == pytest.approx((1 - optimiser.settings.betas[0]) * 1e-3, rel=1e-2)


def test_returns_the_norm_before_clipping():
    net = model()
    optimiser = FlatOptimiser(net, settings(clip=1e-3), torch.float32)
    other = model()
    loss(other, 1).backward()
    expected = nn.utils.clip_grad_norm_(other.parameters(), 1e9)
    assert float(flat_update(net, optimiser, 1)) == pytest.approx(float(expected), rel=1e-5)


def test_parts_of_a_batch_add_up_to_the_whole():
    """The mean over equal parts, collected one by one, is the gradient of the whole batch."""
    whole, parted = model(), model()
    optimisers = [FlatOptimiser(net, settings(clip=0.0), torch.float32) for net in (whole, parted)]
    for update in range(1, UPDATES + 1):
        (sum(loss(whole, 10 * update + part) for part in range(3)) / 3).backward()
        optimisers[0].collect()
        for part in range(3):
            (loss(parted, 10 * update + part) / 3).backward()
            optimisers[1].collect()
        for optimiser in optimisers:
            optimiser.step(update)
        torch.testing.assert_close(optimisers[0].master, optimisers[1].master, rtol=1e-4, atol=1e-6)


def test_bfloat16_rounds_the_model_but_not_the_master():
    net = model()
    start = torch.cat([p.detach().flatten() for p in model().parameters()])
    optimiser = FlatOptimiser(net, settings(learning_rate=1e-5, schedule="constant"), torch.bfloat16)
    assert {p.dtype for p in net.parameters()} | {b.dtype for b in net.buffers()} == {torch.bfloat16}
    assert optimiser.master.dtype == optimiser.total.dtype == torch.float32
    assert sorted(optimiser.master.tolist()) == sorted(start.tolist())
    before = optimiser.master.clone()
    for update in range(1, 60):
        loss(net, 1).backward()
        optimiser.collect()
        optimiser.step(update)
    # Each step is far below bfloat16's spacing of these weights; the sum of the steps must not be lost.
    large = before.abs() > 0.5
    moved = (optimiser.master - before).abs()[large]
    assert (2**-9 * before[large].abs() > 1e-5).all() and moved.max() > 3e-4
    torch.testing.assert_close(optimiser.weights, optimiser.master.bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_restored_state_goes_on_bit_for_bit(dtype):
    net, other = model(), Tied()
    optimiser = FlatOptimiser(net, settings(), dtype)
    for update in range(1, 4):
        flat_update(net, optimiser, update)
    saved = {name: tensor.clone() for name, tensor in optimiser.state().items()}
    restored = FlatOptimiser(other, settings(), dtype)
    other.positions.copy_(net.positions)
    restored.load_state(saved)
    for update in range(4, 7):
        flat_update(net, optimiser, update)
        flat_update(other, restored, update)
        assert torch.equal(optimiser.master, restored.master)
    assert not torch.equal(saved["master"], restored.master)


def test_tied_weights_are_held_once_and_stay_tied():
    net = model()
    optimiser = FlatOptimiser(net, settings(), torch.float32)
    assert len(optimiser.master) == sum(p.numel() for p in net.parameters()) == 7 * 5 + 5 * 5 + 5 * 3
    flat_update(net, optimiser, 1)
    assert net.output is net.embedding
    assert list(optimiser.named_master(net)) == [name for name, _ in net.named_parameters()]


def test_load_weights_reaches_master_and_model():
    net = model()
    optimiser = FlatOptimiser(net, settings(), torch.float32)
    optimiser.load_weights(torch.zeros_like(optimiser.master))
    assert not any(p.any() for p in net.parameters())
    assert not optimiser.master.any()


SCHEDULES = {
    "inverse_sqrt": {1: 0.25, 2: 0.5, 4: 1.0, 16: 0.5, 64: 0.25, 100: 0.2},
    "cosine": {1: 0.25, 4: 1.0, 52: 0.01 + 0.99 / 2, 100: 0.01, 150: 0.01},
    "constant": {1: 0.25, 3: 0.75, 4: 1.0, 5: 1.0, 100: 1.0},
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_learning_rate(schedule):
    training = settings(learning_rate=2.0, warmup=4, max_updates=100, schedule=schedule)
    for update, share in SCHEDULES[schedule].items():
        assert learning_rate(training, update) == pytest.approx(2 * share)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_warm_up_the_first_update_has_the_peak(schedule):
    training = settings(learning_rate=2.0, warmup=0, schedule=schedule)
    assert learning_rate(training, 1) == pytest.approx(2.0, rel=1e-3)
    assert all(math.isfinite(learning_rate(training, update)) for update in range(1, 101))
