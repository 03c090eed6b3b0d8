"""Imitation of a teacher: schedules, prefixes of the student, the teacher's labels, and prefixes shared by updates."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from retort import config
from retort.config import Greedy, Imitation, Mixture, Rollout
from retort.data.vocabulary import BOS, EOS, PAD
from retort.errors import RetortError
from retort.losses.soft_cross_entropy import soft_cross_entropy, softmax_distributions
from retort.losses.teacher_forcing import shifted_right
from retort.models.kernels import CHUNK, reseed_dropout
from retort.objectives import autoregressive as next_token
from retort.objectives import imitation
from retort.objectives.base import Step
from retort.objectives.imitation import Prefixes, data_share, own_limits, prepare, rollouts
from retort.search.base import NO_OUTPUT
from retort.search.greedy import search as greedy
from tests.unit.fakes_models import FakeAutoregressive, autoregressive, batch, sentences

SOURCES, TARGETS = sentences([3, 9, 6, 5]), sentences([8, 4, 5, 2], seed=1)
DATA, OWN = Mixture(schedule="constant", share=1), Mixture(schedule="constant", share=0)


def options(labels="full", beta=OWN, **changes):
    return Imitation(name="imitation", labels=labels, beta=beta, **changes)


def step(teacher=None, progress=0.5, seed=1):
    return Step(torch.Generator().manual_seed(seed), progress, teacher)


@pytest.mark.parametrize(
    ("schedule", "share", "expected"),
    [
        ("exponential", 0.005, [1, 0.005**0.5, 0.005]),
        ("exponential", 1, [1, 1, 1]),
        ("linear", 0, [1, 0.5, 0]),
        ("linear", 0.2, [1, 0.6, 0.2]),
        ("reverse_sigmoid", 0.005, [1 / (1 + math.exp(-10)), 0.5, 1 / (1 + math.exp(10))]),
        ("constant", 0.3, [0.3, 0.3, 0.3]),
    ],
)
def test_the_share_of_the_data(schedule, share, expected):
    beta = Mixture(schedule=schedule, share=share)
    assert [data_share(beta, progress) for progress in (0, 0.5, 1)] == pytest.approx(expected)


@pytest.mark.parametrize(("rate", "expected"), [(1 / 200, 0.188), (1 / 10, 0.391), (1 / 2, 0.721)])
def test_the_mean_share_of_an_exponential_schedule(rate, expected):
    steps = np.arange(10_000) / 10_000
    mean = np.mean([data_share(Mixture(share=rate), progress) for progress in steps])
    assert mean == pytest.approx((1 - rate) / math.log(1 / rate), abs=1e-3)
    assert mean == pytest.approx(expected, abs=1e-3)


def test_an_exponential_schedule_cannot_end_at_none():
    with pytest.raises(ValueError, match="never reaches"):
        Mixture(share=0)


@pytest.mark.parametrize(
    ("labels", "beta", "asked"),
    [
        ("hard", DATA, False),
        ("hard", Mixture(share=1), False),
        ("hard", OWN, True),
        ("hard", Mixture(schedule="reverse_sigmoid", share=1), True),
        ("full", DATA, True),
    ],
)
def test_when_the_teacher_is_asked(labels, beta, asked):
    assert options(labels, beta).needs_teacher == asked


@pytest.mark.parametrize("count", [1, CHUNK + 3])
def test_cross_entropy_with_a_distribution_equals_torchs(count):
    torch.manual_seed(1)
    states, weight = torch.randn(count, 6, requires_grad=True), torch.randn(11, 6, requires_grad=True)
    theirs, their_weight = torch.randn(count, 4), torch.randn(11, 4)
    loss = soft_cross_entropy(states, weight, softmax_distributions(theirs, their_weight))
    target = torch.softmax(theirs @ their_weight.t(), -1)
    expected = functional.cross_entropy(states @ weight.t(), target, reduction="sum")
    torch.testing.assert_close(loss, expected)
    found = torch.autograd.grad(3 * loss, (states, weight))
    for ours, torchs in zip(found, torch.autograd.grad(3 * expected, (states, weight)), strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-4)


def test_prefixes_of_the_data_alone_are_next_token_prediction_to_the_bit():
    found = []
    for objective, chosen in (
        (next_token, config.Autoregressive(name="autoregressive")),
        (imitation, options("hard", Mixture(share=1))),
    ):
        model = autoregressive(dropout=0.2).train()
        reseed_dropout(3)
        loss = objective.compute(model, batch(SOURCES, TARGETS), chosen, step())
        loss.total.backward()
        found.append([loss.total, loss.parts["nll"], *(p.grad for p in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_validation_asks_no_teacher():
    model, pairs = autoregressive(), batch(SOURCES, TARGETS)
    expected = next_token.compute(model, pairs, config.Autoregressive(name="autoregressive"), step())
    found = imitation.compute(model, pairs, options(), step())
    assert torch.equal(found.total, expected.total) and found.parts.keys() == {"nll"}


@pytest.fixture(scope="module")
def student():
    """Some of its outputs end by themselves."""
    model = autoregressive(10, tied="none")
    with torch.no_grad():
        model.embeddings.output[EOS] *= 1.5
    return model


@pytest.fixture(scope="module")
def teacher():
    return autoregressive(8, tied="none")


def trained_at(student, teacher, chosen, *drawn, pairs=None):
    """The loss in training mode."""
    student.train()
    try:
        return imitation.compute(student, pairs or batch(SOURCES, TARGETS), chosen, step(teacher, *drawn))
    finally:
        student.eval()


def outputs(model):
    return [one[0].tokens for one in greedy(model, batch(SOURCES, TARGETS).source_bs, Greedy(kind="greedy"))]


def log_probs(model, source, output):
    """Next-token log-probabilities [t, v] after bos and after each token of the output, step by step."""
    cache = model.start(batch([source], [[6]]).source_bs)
    with torch.no_grad():
        return torch.cat([model.step(torch.tensor([token]), cache) for token in [BOS, *output]])


def test_the_loss_of_a_student_that_is_its_own_teacher_is_its_entropy_at_its_own_prefixes(student):
    found = torch.cat([log_probs(student, *pair) for pair in zip(SOURCES, outputs(student), strict=True)])
    loss = trained_at(student, autoregressive_copy(student), options())
    torch.testing.assert_close(loss.total, -(found.exp() * found).sum(-1).mean())
    assert loss.parts["rollouts"] == 1


def autoregressive_copy(model):
    copy = autoregressive(tied="none")
    copy.load_state_dict(model.state_dict())
    return copy


def test_at_own_prefixes_the_label_is_what_the_teacher_finds_likeliest_next(student, teacher):
    total, count = 0.0, 0
    for source, output in zip(SOURCES, outputs(student), strict=True):
        labels_t = log_probs(teacher, source, output).argmax(-1)
        total -= log_probs(student, source, output).gather(1, labels_t[:, None]).sum()
        count += len(labels_t)
    loss = trained_at(student, teacher, options("hard", label_smoothing=0))
    torch.testing.assert_close(loss.total, total / count)
    torch.testing.assert_close(loss.parts["nll"], loss.total)


def test_labels_are_smoothed_if_hard(student, teacher):
    plain, smoothed = (trained_at(student, teacher, options("hard", label_smoothing=x)) for x in (0.0, 0.1))
    torch.testing.assert_close(smoothed.parts["nll"], plain.total)
    assert abs(smoothed.total - plain.total) > 1e-3


@pytest.mark.parametrize("labels", ["hard", "full"])
def test_sentences_that_keep_the_data_s_prefixes_have_its_tokens_or_the_teacher_s_distribution(
    student, teacher, labels
):
    half = options(labels, Mixture(schedule="constant", share=0.5), label_smoothing=0)
    pairs = batch(SOURCES, TARGETS)
    (prefixes,) = prepare(student, [pairs], half, [step()])
    own = set(prefixes.own_r.tolist())
    assert own == set((torch.rand(4, generator=step().generator) >= 0.5).nonzero()[:, 0].tolist())
    assert 0 < len(own) < 4
    total, count = 0.0, 0
    for row, (source, target, output) in enumerate(zip(SOURCES, TARGETS, outputs(student), strict=True)):
        used = output if row in own else target
        assert prefixes.output_bt[row, : len(used)].tolist() == used
        ours, theirs = log_probs(student, source, used), log_probs(teacher, source, used)
        if labels == "full":
            total -= (theirs.exp() * ours).sum()
        else:
            labels_t = theirs.argmax(-1) if row in own else torch.tensor([*target, EOS])
            total -= ours.gather(1, labels_t[:, None]).sum()
        count += len(used) + 1
    loss = trained_at(student, teacher, half)
    torch.testing.assert_close(loss.total, total / count)
    assert loss.parts["rollouts"] == len(own) / 4


def test_word_level_distillation_is_full_labels_at_the_data_s_prefixes(student, teacher):
    pairs = batch(SOURCES, TARGETS)
    pairs_real = pairs.target_bt != PAD
    with torch.no_grad():
        ours, theirs = (
            model.logits(model(pairs.source_bs, shifted_right(pairs.target_bt)))[pairs_real].log_softmax(-1)
            for model in (student, teacher)
        )
    loss = trained_at(student, teacher, options(beta=DATA))
    torch.testing.assert_close(loss.total, -(theirs.exp() * ours).sum(-1).mean())


@pytest.mark.parametrize("labels", ["hard", "full"])
def test_padding_does_not_change_the_loss(student, teacher, labels):
    mixed = options(labels, Mixture(schedule="constant", share=0.5))
    tight, wide = (trained_at(student, teacher, mixed, pairs=batch(SOURCES, TARGETS, n)) for n in (1, 16))
    torch.testing.assert_close(wide.total, tight.total)


class NeverEnds(FakeAutoregressive):
    """Finds eos impossible, or likelier the longer the output is."""

    training = True

    def __init__(self, never=True):
        ending = (lambda prefix: 0.0) if never else (lambda prefix: 0.9 if len(prefix) > 2 else 0.01)
        super().__init__(lambda prefix: [0, 0, ending(prefix), 0, 0, 0, 0.06, 0.04], 40)

    def eval(self):
        return self

    def train(self, mode=True):
        assert mode
        return self


def rolled(model, pairs, chosen):
    """The outputs of a batch's sources."""
    target_r = (pairs.target_bt != PAD).sum(1)
    limits = own_limits(pairs.source_bs, target_r, chosen, model.config.max_length)
    return rollouts(model, pairs.source_bs, limits, chosen, torch.Generator())


def test_outputs_without_an_end_are_cut_at_the_limit_and_leave_every_position_a_label(student, teacher):
    pairs = batch(SOURCES, TARGETS)
    endless = rolled(NeverEnds(), pairs, Rollout(max_ratio=1))
    lengths = [len(source) + 11 for source in SOURCES]
    assert (endless != PAD).sum(1).tolist() == lengths and not (endless == EOS).any()
    prefixes = Prefixes(endless, torch.arange(4))
    student.train()
    loss = imitation.compute(student, pairs, options("hard"), Step(torch.Generator(), 0.5, teacher, prefixes))
    student.eval()
    assert torch.isfinite(loss.total)
    # the token beyond the limit stands in no prefix and is no label
    beyond = torch.tensor(lengths)[:, None] - 1
    prefixes = Prefixes(endless.scatter(1, beyond, 9), torch.arange(4))
    student.train()
    other = imitation.compute(student, pairs, options("hard"), Step(torch.Generator(), 0.5, teacher, prefixes))
    student.eval()
    assert torch.equal(other.total, loss.total)


def test_outputs_may_be_cut_where_they_get_much_longer_than_the_data_s_targets(student, teacher):
    pairs = batch([*SOURCES, [7] * 9], [*TARGETS, []])
    endless = rolled(NeverEnds(), pairs, Rollout(target_ratio=1.5))
    assert (endless != PAD).sum(1).tolist() == [12 + 1, 6 + 1, 7 + 1, 3 + 1, 1 + 1], "and the token beyond the limit"
    source_limits = [int(0.1 * len(source)) + 10 + 1 for source in SOURCES]
    found = rolled(NeverEnds(), batch(SOURCES, TARGETS), Rollout(max_ratio=0.1, target_ratio=9))
    assert (found != PAD).sum(1).tolist() == source_limits, "the other limit still holds"
    chosen = options(rollout=Rollout(target_ratio=0.5))
    (prefixes,) = prepare(student, [batch(SOURCES, TARGETS)], chosen, [step()])
    lengths = (prefixes.output_bt != PAD).sum(1).tolist()
    assert all(n <= most for n, most in zip(lengths, [4 + 1, 2 + 1, 2 + 1, 1 + 1], strict=True))


def test_a_lower_bound_of_the_data_s_share():
    beta = Mixture(share=0.005, least=0.4)
    assert [data_share(beta, progress) for progress in (0, 0.1, 0.5, 1)] == pytest.approx([1, 0.005**0.1, 0.4, 0.4])
    assert not options("hard", Mixture(least=1)).mixes


def test_a_temperature_divides_the_teacher_s_logits(student, teacher):
    pairs, temperature = batch(SOURCES, TARGETS), 0.5
    real_bt = pairs.target_bt != PAD
    with torch.no_grad():
        ours, theirs = (model.logits(model(pairs.source_bs, shifted_right(pairs.target_bt)))[real_bt] for model in
                        (student, teacher))  # fmt: skip
    expected = functional.cross_entropy(ours, torch.softmax(theirs / temperature, -1))
    loss = trained_at(student, teacher, options(beta=DATA, temperature=temperature))
    torch.testing.assert_close(loss.total, expected)
    (best,) = (trained_at(student, teacher, options(beta=DATA, temperature=temperature, top_k=3)),)
    assert best.total < loss.total, "the temperature comes before the choice of the best tokens"
    for labels in ("hard", "stored"):
        with pytest.raises(ValueError, match="have no temperature"):
            options(labels, DATA, temperature=0.5, top_k=8)


def test_outputs_end_with_eos_then_padding():
    ended = rolled(NeverEnds(never=False), batch(SOURCES, TARGETS), Rollout())
    assert ended.tolist() == [[6, 6, 6, EOS]] * 4


def test_contexts_are_as_wide_as_the_longest_sentence_or_output(student):
    pairs = batch(SOURCES, TARGETS)
    longest = max([len(tokens) + 1 for tokens in outputs(student)] + [pairs.target_bt.shape[1]])
    (prefixes,) = prepare(student, [pairs], options(), [step()])
    assert longest <= prefixes.output_bt.shape[1] < longest + 4


def test_samples_are_drawn_from_the_best_tokens_by_their_probabilities():
    log_probs_bv = torch.tensor([0.1, 0.4, 0.3, 0.2]).log().expand(4000, -1)
    choose = imitation._sampler(2, torch.Generator().manual_seed(1))
    chosen_log_prob, token = choose(log_probs_bv)
    shares = torch.bincount(token, minlength=4) / len(token)
    torch.testing.assert_close(shares, torch.tensor([0, 4 / 7, 3 / 7, 0]), atol=0.03, rtol=0)
    assert torch.equal(chosen_log_prob, log_probs_bv[0][token])


def sampled(student, seed, top_k=3):
    """The prefixes of a student that draws them, without padding."""
    chosen = options(rollout=Rollout(kind="sample", top_k=top_k))
    (prefixes,) = prepare(student, [batch(SOURCES, TARGETS)], chosen, [step(seed=seed)])
    return [[token for token in row if token != PAD] for row in prefixes.output_bt.tolist()]


def test_prefixes_of_the_student_may_be_drawn_from_its_best_tokens_at_each_step(student):
    one, same, other = (sampled(student, seed) for seed in (1, 1, 2))
    assert one == same != other
    for source, tokens in zip(SOURCES, one, strict=True):
        possible_tv = log_probs(student, source, tokens[:-1]).index_fill(1, torch.tensor(NO_OUTPUT), -math.inf)
        assert all(token in best for token, best in zip(tokens, possible_tv.topk(3).indices.tolist(), strict=True))
    (best,) = prepare(student, [batch(SOURCES, TARGETS)], options(), [step()])
    greedily = [[token for token in row if token != PAD] for row in best.output_bt.tolist()]
    assert sampled(student, seed=1, top_k=1) == greedily != one


def test_prefixes_made_together_are_those_made_one_batch_after_the_other(student):
    pairs = [batch(SOURCES, TARGETS, 4), batch(SOURCES[1:], TARGETS[1:]), batch(SOURCES[:1], TARGETS[:1])]
    half = options(beta=Mixture(schedule="constant", share=0.5))
    together = prepare(student, pairs, half, [step(seed=s) for s in range(3)])
    for number, (pair, found) in enumerate(zip(pairs, together, strict=True)):
        (alone,) = prepare(student, [pair], half, [step(seed=number)])
        assert torch.equal(found.output_bt, alone.output_bt) and torch.equal(found.own_r, alone.own_r)
    assert not student.training


def test_own_prefixes_are_decoded_without_dropout():
    model = autoregressive(dropout=0.5).train()
    found, again = (prepare(model, [batch(SOURCES, TARGETS)], options(), [step()])[0].output_bt for _ in range(2))
    assert torch.equal(found, again)
    assert torch.equal(found, prepare(model.eval(), [batch(SOURCES, TARGETS)], options(), [step()])[0].output_bt)


@pytest.mark.parametrize("training", [True, False])
def test_a_student_goes_on_in_the_mode_it_was_in(student, training):
    student.train(training)
    prepare(student, [batch(SOURCES, TARGETS)], options(), [step()])
    assert student.training == training
    student.eval()


def test_one_share_for_all_batches_of_a_call(student):
    pairs = [batch(SOURCES, TARGETS)] * 2
    found = prepare(student, pairs, options(beta=Mixture(schedule="linear", share=0)), [step(None, p) for p in (0, 1)])
    assert [len(prefixes.own_r) for prefixes in found] == [0, 0]


@pytest.mark.parametrize("labels", ["hard", "full"])
def test_gradients_reach_the_student_alone(student, teacher, labels):
    kept = []
    with teacher.register_forward_hook(lambda model, given, states: kept.append(states.requires_grad)):
        loss = trained_at(student, teacher, options(labels, Mixture(schedule="constant", share=0.5)))
    found = torch.autograd.grad(loss.total, list(student.parameters()))
    assert all(g.isfinite().all() for g in found) and sum(g.abs().sum() for g in found) > 0
    assert kept == [False]


def test_a_missing_teacher_is_refused(student):
    with pytest.raises(RetortError, match="asks a teacher, and there is none"):
        trained_at(student, None, options())
