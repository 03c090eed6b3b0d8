"""BANG: losses of its modes."""

from dataclasses import replace

import pytest
import torch

from retort import config
from retort.data.vocabulary import PAD
from retort.losses.teacher_forcing import shifted_right
from retort.objectives import bang
from retort.objectives.base import Step
from tests.unit.fakes_models import bang_model, batch, lively_bang_model, padded, sentences
from tests.unit.fakes_training import sequences, trainer

SOURCES, TARGETS = sentences([3, 9, 6, 5]), sentences([8, 4, 5, 2], seed=1)
STEP = Step(torch.Generator())


def test_a_batch_trains_one_mode_as_often_as_it_should():
    model, pairs = bang_model().train(), batch(SOURCES[:1], TARGETS[:1])
    options = config.Bang(name="bang", nar_ratio=0.3, label_smoothing=0.0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        totals = [bang.compute(model, pairs, options, Step(generator)).total.item() for _ in range(200)]
        left, parallel = (
            -(bang.log_likelihood(model, pairs, config.Bang(name="bang", nar_ratio=r)) / pairs.target_tokens).item()
            for r in (0, 1)
        )
    drawn = [abs(total - parallel) < 1e-5 for total in totals]
    assert all(was or abs(total - left) < 1e-5 for was, total in zip(drawn, totals, strict=True))
    assert abs(left - parallel) > 1e-3 and abs(sum(drawn) / 200 - 0.3) < 5 * (0.21 / 200) ** 0.5


def test_validation_weighs_the_modes():
    model, pairs = bang_model(), batch(SOURCES, TARGETS)
    left, parallel, both = (
        bang.compute(model, pairs, config.Bang(name="bang", nar_ratio=r), STEP) for r in (0, 1, 0.25)
    )
    torch.testing.assert_close(both.total, 0.75 * left.total + 0.25 * parallel.total)
    torch.testing.assert_close(both.parts["nll"], both.total.detach())
    assert abs(left.total - parallel.total) > 1e-3


@pytest.mark.parametrize(("changes", "size"), [({"nar_ratio": 0}, 1), ({"block": 3}, 3), ({}, 9)])
def test_a_log_likelihood_is_that_of_the_mode(changes, size):
    """Block by block, each given the tokens before it."""
    model, pairs = bang_model(), batch(SOURCES, TARGETS)
    total, inputs = torch.zeros(4), shifted_right(pairs.target_bt)
    with torch.no_grad():
        for start in range(0, 9, size):
            states = model.advance(inputs[:, : start + 1], model.start(pairs.source_bs), min(size, 9 - start))
            target = pairs.target_bt[:, start : start + size]
            log_probs = torch.log_softmax(model.logits(states), -1).gather(2, target[:, :, None])[:, :, 0]
            total += (log_probs * (target != PAD)).sum(1)
    options = config.Bang(name="bang", **changes)
    torch.testing.assert_close(bang.log_likelihood(model, pairs, options), total)
    loss = bang.compute(model, pairs, options, STEP)
    torch.testing.assert_close(loss.total, -total.sum() / pairs.target_tokens)


@pytest.mark.slow
def test_one_training_teaches_both_modes(tmp_path):
    train, valid = sequences(4000, 1), sequences(200, 2)
    at_once, greedy = config.Blocks(kind="blocks", collapse=False), config.Greedy(kind="greedy")
    settings = {"max_updates": 200, "warmup": 40, "learning_rate": 0.01, "schedule": "cosine", "validate_every": 200}
    learner = trainer(tmp_path, "bang", train, valid, at_once, batch_tokens=512, **settings)
    assert learner.run(tmp_path / "events").scores["BLEU"] > 98
    for search in (greedy, config.Blocks(kind="blocks", block=2, collapse=False)):
        learner.validator.search = search
        assert learner.validator(learner.model)["BLEU"] > 98


def test_a_teacher_labels_the_slots_of_the_parallel_mode():
    """The left-to-right mode of a model of the same kind."""
    model, teacher = bang_model().train(), bang_model(seed=5)
    kinds, weights = torch.tensor([True, False, True, True]), torch.tensor([1.0, 1.0, 0.25, 0.5])
    pairs = replace(batch(SOURCES, TARGETS), distilled_b=kinds, weight_b=weights)
    options, step = config.Bang(name="bang", block=3, teacher_weight=0.7), replace(STEP, teacher=teacher)
    found, without = (bang.compute(model, pairs, options, s) for s in (step, STEP))
    inputs, real = shifted_right(pairs.target_bt), pairs.target_bt != PAD
    theirs = torch.softmax(teacher.logits(teacher(pairs.source_bs, inputs)), -1).detach()
    states = model.decode_blocks(inputs, 3, *model.encode(pairs.source_bs))
    cross = -(theirs * torch.log_softmax(model.logits(states), -1)).sum(-1)
    expected = (cross * real * (kinds * weights)[:, None]).sum() / (real * weights[:, None]).sum()
    torch.testing.assert_close(found.total, without.total + 0.7 * expected)
    torch.testing.assert_close(found.parts["taught"], expected.detach())
    left = options.model_copy(update={"nar_ratio": 0.0})
    untaught = bang.compute(model, pairs, left, step)
    assert untaught.parts["taught"] == 0 and torch.equal(untaught.total, bang.compute(model, pairs, left, STEP).total)
    assert "taught" not in bang.compute(model.eval(), pairs, options, step).parts
    assert options.needs_teacher and not left.needs_teacher


@pytest.mark.parametrize(("changes", "size"), [({"nar_ratio": 0}, 1), ({"block": 3}, 3), ({}, 7)])
def test_agreement_is_the_share_of_slots_that_say_the_target(changes, size):
    """Every other token is the most probable one, given those before it that the mode sees."""
    model, source, tokens = lively_bang_model(), padded(SOURCES[:1]), []
    model.embeddings.output.data[:6] *= 0.01
    for t in range(6):
        inputs = shifted_right(torch.tensor([tokens + [7] * (7 - t)]))
        best = model.logits(model.decode_blocks(inputs, size, *model.encode(source)))[0, t].argmax().item()
        assert best >= 6
        tokens.append(best if t % 2 else 6 + (best - 5) % 8)
    pairs = batch([SOURCES[0], SOURCES[1]], [tokens, tokens * 2])
    assert bang.agreement(model, pairs, config.Bang(name="bang", **changes))[0].item() == pytest.approx(3 / 7)
