"""What a sample's weight does to each loss, what a teacher adds, and how far a model agrees with a target."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from retort import config
from retort.data.vocabulary import BLANK, EOS, MASK, PAD
from retort.losses.cross_entropy import linear_cross_entropy
from retort.losses.soft_cross_entropy import soft_cross_entropy
from retort.losses.teacher_forcing import shifted_right
from retort.models.kernels import CHUNK
from retort.objectives import cmlm, ctc, glat, glat_ctc, vanilla
from retort.objectives.base import Step
from tests.unit.fakes_models import autoregressive, batch, parallel, sentences
from tests.unit.fakes_objectives import COMMON_CASES, LOSS_CASES

SOURCES, TARGETS = sentences([3, 9, 6, 5]), sentences([8, 4, 5, 2], seed=1)
STEP = Step(torch.Generator(), 0.9)
# objective's module, its options, a model for it; nothing is revealed
OBJECTIVES = {
    **{name: case for name, case in COMMON_CASES.items() if name != "autoregressive"},
    **LOSS_CASES,
    "cmlm": (cmlm, config.Cmlm(name="cmlm"), parallel),
}


@pytest.fixture(autouse=True)
def every_other_token_is_masked(monkeypatch):
    def masked(target_bt, generator):
        return (target_bt != PAD) & (torch.arange(target_bt.shape[1]) % 2 == 0)

    monkeypatch.setattr(cmlm, "random_mask", masked)


def found(name, pairs, model=None):
    """Loss, and gradients of the parameters that have one."""
    objective, options, build = OBJECTIVES[name]
    model = model or build().train()
    loss = objective.compute(model, pairs, options, STEP)
    loss.total.backward()
    return loss, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_weights_of_0_and_1_choose_a_part_of_the_batch(name):
    pairs = batch(SOURCES, TARGETS)
    weight_b = torch.tensor([1.0, 0.0, 0.0, 1.0])
    part = batch([SOURCES[0], SOURCES[3]], [TARGETS[0], TARGETS[3]])
    (weighted, gradients), (expected, wanted) = found(name, replace(pairs, weight_b=weight_b)), found(name, part)
    torch.testing.assert_close(weighted.total, expected.total)
    torch.testing.assert_close(gradients, wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(weighted.parts.get("nll"), expected.parts.get("nll"))
    chosen = pairs.weighted(weight_b)
    assert chosen.ids.tolist() == [0, 3] and chosen.weights.tolist() == [1, 1]
    torch.testing.assert_close(found(name, chosen)[0].total, expected.total)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_is_the_weighted_mean_over_tokens(name):
    weights = [0.5, 0.125, 1.0, 0.25]
    whole, gradients = found(name, replace(batch(SOURCES, TARGETS), weight_b=torch.tensor(weights)))
    model = OBJECTIVES[name][2]().train()
    losses, lengths, tokens = [], [], []
    for source, target in zip(SOURCES, TARGETS, strict=True):
        loss = OBJECTIVES[name][0].compute(model, batch([source], [target]), OBJECTIVES[name][1], STEP)
        lengths.append(0.1 * loss.parts.get("length", torch.zeros(())))
        losses.append(loss.total)
        n = len(target) + ("ctc" not in name)
        tokens.append((n + 1) // 2 if name == "cmlm" else n)
    w, n = torch.tensor(weights), torch.tensor(tokens)
    sentence, length = torch.stack(losses) - torch.stack(lengths), torch.stack(lengths)
    expected = (w * n * sentence).sum() / (w * n).sum() + (w * length).sum() / w.sum()
    torch.testing.assert_close(whole.total, expected)
    if not whole.parts.get("length"):
        expected.backward()
        wanted = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
        torch.testing.assert_close(gradients, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_equal_weights_change_no_bit_and_none_at_all_is_a_loss_of_0(name):
    pairs = batch(SOURCES, TARGETS)
    plain, wanted = found(name, pairs)
    for value in (1.0, 0.5):
        same, gradients = found(name, replace(pairs, weight_b=torch.full((4,), value)))
        assert torch.equal(same.total, plain.total)
        assert all(torch.equal(gradients[key], wanted[key]) for key in wanted)
    nothing = pairs.weighted(torch.zeros(4))
    assert len(nothing.ids) == 4
    loss, gradients = found(name, nothing)
    assert loss.total == 0 and all((gradient == 0).all() for gradient in gradients.values())


def test_both_targets_of_a_source_weigh_as_the_weighted_mixture_says():
    a, raw, distilled = 0.25, batch(SOURCES, TARGETS), batch(SOURCES, sentences([5, 6, 4, 3], seed=7))
    both = batch([*SOURCES, *SOURCES], [*TARGETS, *sentences([5, 6, 4, 3], seed=7)])
    weight_b = torch.tensor([1 - a] * 4 + [a] * 4)
    one, two, mixed = (found("ctc", pairs)[0].total for pairs in (raw, distilled, replace(both, weight_b=weight_b)))
    tokens = torch.tensor([(1 - a) * (8 + 4 + 5 + 2), a * (5 + 6 + 4 + 3)])
    torch.testing.assert_close(mixed, (tokens * torch.stack([one, two])).sum() / tokens.sum())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_positions_count_what_they_are_said_to(smoothing):
    torch.manual_seed(1)
    states, weight = torch.randn(2 * CHUNK + 3, 6, requires_grad=True), torch.randn(11, 6, requires_grad=True)
    target, counts = torch.randint(11, (len(states),)), torch.rand(len(states))
    teacher = torch.softmax(torch.randn(len(states), 11), -1)
    logits = states @ weight.t()
    hard = functional.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing) @ counts
    soft = -(teacher * torch.log_softmax(logits, -1)).sum(1) @ counts
    found = [
        linear_cross_entropy(states, weight, target, smoothing, counts)[0],
        soft_cross_entropy(states, weight, lambda rows: teacher[rows], counts),
    ]
    for ours, theirs in zip(found, (hard, soft), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
        pairs = (torch.autograd.grad(3 * x, (states, weight), retain_graph=True) for x in (ours, theirs))
        for one, other in zip(*pairs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


# ---- what a teacher adds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vanilla", "vanilla, deep", "cmlm", "glat"])
@pytest.mark.parametrize("top_k", [None, 3])
def test_a_teacher_labels_its_own_targets_in_the_slots_that_count(name, top_k):
    objective, options, build = OBJECTIVES[name]
    options = options.model_copy(update={"teacher_weight": 0.7, "teacher_top_k": top_k})
    model, teacher = build().train(), autoregressive(seed=5)
    distilled_b, weight_b = torch.tensor([True, False, True, True]), torch.tensor([1.0, 1.0, 0.25, 0.5])
    pairs = replace(batch(SOURCES, TARGETS), distilled_b=distilled_b, weight_b=weight_b)
    step, kept = replace(STEP, teacher=teacher), []
    with teacher.register_forward_hook(lambda model, given, states: kept.append(states.requires_grad)):
        with_teacher, without = (objective.compute(model, pairs, options, s) for s in (step, STEP))
    assert kept == [False]

    target_bt = pairs.target_bt
    masked_bt = cmlm.random_mask(target_bt, None) if name == "cmlm" else target_bt != PAD
    theirs_btv = torch.softmax(teacher.logits(teacher(pairs.source_bs, shifted_right(target_bt))), -1)
    others_btv = torch.zeros_like(theirs_btv, dtype=torch.bool)
    if top_k:
        others_btv = theirs_btv < theirs_btv.topk(top_k, -1).values[:, :, -1:]
    theirs_btv = theirs_btv.detach()
    rest_bt = (theirs_btv * others_btv).sum(-1)
    layers = model.layers_of_tokens(target_bt.masked_fill(masked_bt, MASK), *model.encode(pairs.source_bs))
    terms = []
    for states in layers:
        ours_btv = torch.softmax(model.logits(states), -1)
        cross_bt = -(theirs_btv * ~others_btv * ours_btv.log()).sum(-1)
        if top_k:
            cross_bt = cross_bt - rest_bt * (ours_btv * others_btv).sum(-1).log()
        terms.append((cross_bt * masked_bt * distilled_b[:, None] * weight_b[:, None]).sum())
    expected = torch.stack(terms).mean() / (masked_bt * weight_b[:, None]).sum()
    torch.testing.assert_close(with_teacher.parts["taught"], expected.detach())
    torch.testing.assert_close(with_teacher.total, without.total + 0.7 * expected)
    parameters = [model.embeddings.output, *model.decoder.parameters()]
    for one, other in zip(
        torch.autograd.grad(with_teacher.total - without.total, parameters),
        torch.autograd.grad(0.7 * expected, parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_a_teacher_that_is_not_mixed_in_labels_all_and_none_in_validation():
    objective, options, build = OBJECTIVES["vanilla"]
    options = options.model_copy(update={"teacher_weight": 1.0})
    model, pairs, step = build().train(), batch(SOURCES, TARGETS), replace(STEP, teacher=autoregressive(seed=5))
    every = replace(pairs, distilled_b=torch.ones(4, dtype=torch.bool))
    one, other = (objective.compute(model, b, options, step).total for b in (pairs, every))
    assert torch.equal(one, other)
    nothing = replace(pairs, distilled_b=torch.zeros(4, dtype=torch.bool))
    assert objective.compute(model, nothing, options, step).parts["taught"] == 0
    assert "taught" not in objective.compute(model.eval(), pairs, options, step).parts
    assert config.Vanilla(name="vanilla", teacher_weight=0.1).needs_teacher
    assert not config.Vanilla(name="vanilla").needs_teacher


# ---- agreement ------------------------------------------------------------------------------------------------------


def test_agreement_is_the_share_of_slots_that_say_the_target(monkeypatch):
    """Eos counts, padding does not."""
    model, pairs = parallel(), batch([[7, 8], [6], [9]], [[6, 7, 8], [9], [9, 9]])
    guess = torch.tensor([[6, 9, 8, EOS], [8, EOS, PAD, PAD], [6, 6, 6, PAD]])
    inputs = []

    def decode(input_bt, *memory):
        inputs.append(input_bt)
        return functional.one_hot(guess, 14).float()

    monkeypatch.setattr(model, "decode_tokens", decode)
    model.embeddings.output = torch.nn.Parameter(torch.eye(14))
    for module, options in ((vanilla, None), (cmlm, None), (glat, None)):
        assert module.agreement(model, pairs, options).tolist() == [0.75, 0.5, 0.0]
        assert set(inputs[-1].flatten().tolist()) == {MASK, PAD}


def test_agreement_with_ctc_is_along_the_best_alignment(monkeypatch):
    """The second source's slots cannot hold its target; the third has one slot of padding."""
    model, pairs = parallel(2), batch([[7]] * 3, [[6, 7], [6, 6, 6, 6], [6]])
    # the log-probabilities of four slots: 6 6 - 9, where 7 is second best in the last
    logits = torch.full((3, 4, 14), -9.0)
    for slot, token in enumerate((6, 6, BLANK, 9)):
        logits[:, slot, token] = 0.0
    logits[:, 3, 7] = -1.0
    monkeypatch.setattr(model, "decode_upsampled", lambda *given: (logits, torch.tensor([4, 4, 3])))
    model.embeddings.output = torch.nn.Parameter(torch.eye(14))
    for module in (ctc, glat_ctc):
        assert module.agreement(model, pairs, None).tolist() == [0.75, 0.0, 1.0]
