import pytest
import torch
from torch.nn import functional

from retort import config
from retort.data.vocabulary import EOS, MASK, PAD
from retort.losses.cross_entropy import linear_cross_entropy
from retort.losses.teacher_forcing import shifted_right
from retort.losses.token_log_probs import token_log_probs
from retort.models.kernels import CHUNK, reseed_dropout
from retort.models.parallel import LENGTH_RANGE
from retort.objectives import autoregressive as next_token
from retort.objectives import cmlm, fuzzy_dag, imitation, nmla, vanilla
from retort.objectives.base import Step
from retort.objectives.shared.masked_targets import masked_loss
from retort.objectives.shared.predicted_length import length_loss
from tests.unit.fakes_models import autoregressive, batch, dag_model, parallel, sentences
from tests.unit.fakes_objectives import COMMON_CASES, LOSS_CASES

SOURCES, TARGETS = sentences([3, 9, 6, 5]), sentences([8, 4, 5, 2], seed=1)
STEP = Step(torch.Generator())
# objective's module, its options, a model for it
OBJECTIVES = {
    **COMMON_CASES,
    "imitation": (
        imitation,
        config.Imitation(name="imitation", labels="hard", beta=config.Mixture(schedule="constant", share=1)),
        autoregressive,
    ),
    **LOSS_CASES,
}
MEANS_OVER_SENTENCES = {
    "nmla": (nmla, config.Nmla(name="nmla"), lambda: parallel(2)),
    "fuzzy_dag": (fuzzy_dag, config.FuzzyDag(name="fuzzy_dag", start=0, end=0), lambda: dag_model(2)),
}
MEAN_OVER_MASKS = {"cmlm": (cmlm, config.Cmlm(name="cmlm"), parallel)}


def gradients(loss: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, inputs, retain_graph=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("count", [1, CHUNK, 2 * CHUNK + 3])
def test_projection_and_cross_entropy_equal_torchs(count, smoothing):
    torch.manual_seed(1)
    states, weight = torch.randn(count, 6, requires_grad=True), torch.randn(11, 6, requires_grad=True)
    target = torch.randint(11, (count,))
    loss, plain = linear_cross_entropy(states, weight, target, smoothing)
    expected = functional.cross_entropy(states @ weight.t(), target, reduction="sum", label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(plain, functional.cross_entropy(states @ weight.t(), target, reduction="sum"))
    assert not plain.requires_grad
    for ours, theirs in zip(gradients(3 * loss, states, weight), gradients(3 * expected, states, weight), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_cross_entropy_in_bfloat16_is_close_to_float32():
    torch.manual_seed(1)
    states, weight = torch.randn(600, 6), torch.randn(11, 6)
    target = torch.randint(11, (600,))
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        x, w = (y.to(dtype).requires_grad_() for y in (states, weight))
        loss, _ = linear_cross_entropy(x, w, target, 0.1)
        assert loss.dtype == torch.float32
        found.append([y.float() for y in (loss, *gradients(loss, x, w))])
    for exact, rough in zip(*found, strict=True):
        assert (exact - rough).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("t", [7, CHUNK // 2 + 1])
def test_token_log_probs_equal_those_of_the_whole_vocabulary(t):
    torch.manual_seed(2)
    states, weight = torch.randn(3, t, 6, requires_grad=True), torch.randn(11, 6, requires_grad=True)
    tokens = torch.tensor([[5, 7, 7, 8], [5, 9, 6, 9], [5, 0, 0, 0]])
    found = token_log_probs(states, weight, tokens)
    expected = torch.log_softmax(states @ weight.t(), -1).gather(2, tokens[:, None].expand(-1, t, -1))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(found)
    pairs = zip(*(gradients((y * direction).sum(), states, weight) for y in (found, expected)), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*OBJECTIVES, *MEANS_OVER_SENTENCES, *MEAN_OVER_MASKS])
def test_padding_does_not_change_a_loss(name, monkeypatch):
    monkeypatch.setattr(cmlm, "random_mask", lambda target_bt, generator: (target_bt & 3) == EOS)
    objective, options, build = (OBJECTIVES | MEANS_OVER_SENTENCES | MEAN_OVER_MASKS)[name]
    model = build()
    tight, wide = (objective.compute(model, batch(SOURCES, TARGETS, step), options, STEP) for step in (1, 16))
    torch.testing.assert_close(wide.total, tight.total)
    torch.testing.assert_close(wide.parts, tight.parts)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_of_a_batch_is_the_mean_over_its_tokens(name):
    objective, options, build = OBJECTIVES[name]
    model = build().train()
    whole = objective.compute(model, batch(SOURCES, TARGETS), options, STEP)
    weights, parts = [], []
    for source, target in zip(SOURCES, TARGETS, strict=True):
        weights.append(len(target) + ("ctc" not in name))
        parts.append(objective.compute(model, batch([source], [target]), options, STEP))
    # the length predictor's loss is a mean over sentences instead
    length = 0.1 * torch.stack([p.parts.get("length", torch.zeros(())) for p in parts])
    tokens = torch.stack([p.total for p in parts]) - length
    expected = (tokens * torch.tensor(weights)).sum() / sum(weights) + length.mean()
    torch.testing.assert_close(whole.total, expected)


@pytest.mark.parametrize("name", MEANS_OVER_SENTENCES)
def test_the_loss_of_a_batch_may_be_the_mean_over_its_sentences(name):
    objective, options, build = MEANS_OVER_SENTENCES[name]
    model = build().train()
    whole, *parts = (
        objective.compute(model, batch(SOURCES[rows], TARGETS[rows]), options, STEP).total
        for rows in (slice(4), *(slice(row, row + 1) for row in range(4)))
    )
    torch.testing.assert_close(whole, torch.stack(parts).mean())


@pytest.mark.parametrize("name", ["autoregressive", "imitation", "vanilla", "bang", "axe", "oaxe", "glat"])
def test_labels_are_smoothed_in_training_only(name):
    objective, options, build = OBJECTIVES[name]
    model, pairs = build(), batch(SOURCES, TARGETS)
    evaluated = objective.compute(model, pairs, options, STEP)
    trained = objective.compute(model.train(), pairs, options, STEP)
    extra = 0.1 * evaluated.parts.get("length", 0.0)
    torch.testing.assert_close(evaluated.total, evaluated.parts["nll"] + extra)
    torch.testing.assert_close(trained.parts["nll"], evaluated.parts["nll"])
    assert abs(trained.total - evaluated.total) > 1e-3


def test_the_next_token_loss_is_that_of_a_step_by_step_decoder():
    model, pairs = autoregressive(), batch(SOURCES, TARGETS)
    cache = model.start(pairs.source_bs)
    token, total = torch.ones(4, dtype=torch.long), 0.0
    with torch.no_grad():
        for t in range(pairs.target_bt.shape[1]):
            log_probs, token = model.step(token, cache), pairs.target_bt[:, t]
            total -= log_probs.gather(1, token[:, None])[:, 0][token != PAD].sum()
    loss = next_token.compute(model, pairs, config.Autoregressive(name="autoregressive"), STEP)
    torch.testing.assert_close(loss.parts["nll"], total / pairs.target_tokens)


def test_the_masked_loss_counts_masked_tokens_given_the_others():
    model, pairs, options = parallel(), batch(SOURCES, TARGETS), config.Cmlm(name="cmlm", length_weight=0.5)
    masked = torch.zeros_like(pairs.target_bt, dtype=torch.bool)
    masked[[0, 0, 1, 3], [0, 8, 2, 1]] = True
    loss = masked_loss(model, pairs, options, masked)
    states = model.decode_tokens(pairs.target_bt.masked_fill(masked, MASK), *model.encode(pairs.source_bs))
    log_probs = torch.log_softmax(model.logits(states), -1).gather(2, pairs.target_bt[:, :, None])[:, :, 0]
    torch.testing.assert_close(loss.parts["nll"], -log_probs[masked].mean())
    torch.testing.assert_close(loss.total, loss.parts["nll"] + 0.5 * loss.parts["length"])
    wider = functional.pad(masked, (0, 16 - masked.shape[1]))
    torch.testing.assert_close(masked_loss(model, batch(SOURCES, TARGETS, 16), options, wider).total, loss.total)


def test_fully_masked_cmlm_is_the_vanilla_objective(monkeypatch):
    model, pairs = parallel(), batch(SOURCES, TARGETS)
    monkeypatch.setattr(cmlm, "random_mask", lambda target_bt, generator: target_bt != PAD)
    found = cmlm.compute(model, pairs, config.Cmlm(name="cmlm"), STEP)
    assert torch.equal(found.total, vanilla.compute(model, pairs, config.Vanilla(name="vanilla"), STEP).total)


def test_random_masks_are_uniform_in_number_and_place():
    target = torch.full((8000, 6), 7)
    target[4000:, 3:] = PAD
    masked = cmlm.random_mask(target, torch.Generator().manual_seed(1))
    assert not masked[target == PAD].any()
    for rows, n in ((masked[:4000], 6), (masked[4000:, :3], 3)):
        counts = rows.sum(1).bincount(minlength=n + 1).double() / 4000
        assert counts[0] == 0
        assert (counts[1:] - 1 / n).abs().max() < 5 * (1 / n / 4000) ** 0.5
        assert (rows.double().mean(0) - (n + 1) / (2 * n)).abs().max() < 5 * (0.25 / 4000) ** 0.5


def test_a_random_mask_is_a_function_of_its_generator():
    target = torch.full((50, 9), 7)
    one, same, other = (cmlm.random_mask(target, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_length_loss_asks_for_the_difference_of_lengths():
    model = parallel()
    torch.nn.init.zeros_(model.length.weight)
    torch.nn.init.zeros_(model.length.bias)
    model.length.bias.data[LENGTH_RANGE + 2] = 30.0
    right, wrong = (batch(sentences([3, 6]), sentences(lengths)) for lengths in ([5, 8], [5, 7]))
    assert length_loss(model, right, model.encode(right.source_bs)[0]).item() == pytest.approx(0.0, abs=1e-3)
    assert length_loss(model, wrong, model.encode(wrong.source_bs)[0]).item() == pytest.approx(15.0, abs=1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_r_drop_adds_a_second_pass_and_the_distance_of_the_two(smoothing):
    model, pairs = autoregressive(dropout=0.3).train(), batch(SOURCES, TARGETS)
    plain = config.Autoregressive(name="autoregressive", label_smoothing=smoothing)
    options = plain.model_copy(update={"r_drop": 4.0})
    reseed_dropout(7)
    found = next_token.compute(model, pairs, options, STEP)
    reseed_dropout(7)
    passes, log_probs = [], []
    for _ in range(2):
        states = model(pairs.source_bs, shifted_right(pairs.target_bt))[pairs.target_bt != PAD]
        log_probs.append(torch.log_softmax(model.logits(states), -1))
        target = pairs.target_bt[pairs.target_bt != PAD]
        passes.append(functional.cross_entropy(log_probs[-1], target, label_smoothing=smoothing))
    p, q = log_probs
    divergence = ((p.exp() - q.exp()) * (p - q)).sum() / 2 / pairs.target_tokens
    assert divergence > 1e-3
    torch.testing.assert_close(found.parts["divergence"], divergence.detach())
    torch.testing.assert_close(found.total, (passes[0] + passes[1] + 4 * divergence) / 2)
    one, without = (next_token.compute(model.eval(), pairs, o, STEP) for o in (options, plain))
    assert torch.equal(one.total, without.total) and "divergence" not in one.parts
