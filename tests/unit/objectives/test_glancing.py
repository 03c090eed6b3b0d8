"""What GLAT and GLAT with CTC reveal, to which pass, and what the loss counts."""

from types import SimpleNamespace

import pytest
import torch

from retort import config
from retort.data.vocabulary import BLANK, MASK, PAD
from retort.losses import ctc_alignments
from retort.losses.masking import lowest
from retort.models.kernels import dropout, most_probable, reseed_dropout, rewound_dropout
from retort.objectives import ctc, glat, glat_ctc, vanilla
from retort.objectives.base import Step
from retort.objectives.shared.glancing import glancing_ratio
from retort.objectives.shared.masked_targets import masked_loss
from tests.unit.fakes_models import batch, padded, parallel, sentences

SOURCES, TARGETS = sentences([3, 9, 6, 5]), sentences([8, 4, 5, 2], seed=1)
# objective's module, its options, a model for it, the decoder's method
OBJECTIVES = {
    "glat": (glat, config.Glat(name="glat", start=0.9, end=0.9), parallel, "layers_of_tokens"),
    "glat_ctc": (
        glat_ctc,
        config.GlatCtc(name="glat_ctc", upsampling=3, start=0.9, end=0.9),
        lambda **changes: parallel(3, **changes),
        "layers_of_upsampled",
    ),
}


def step(seed=1, progress=0.0):
    return Step(torch.Generator().manual_seed(seed), progress)


def spied(monkeypatch, model, *names):
    """Arguments and results of the calls of the model's methods."""
    calls = []

    def watch(name, method):
        def spy(*positional, **named):
            result = method(*positional, **named)
            given = (*positional, *named.values())
            calls.append(SimpleNamespace(name=name, given=given, result=result, gradient=torch.is_grad_enabled()))
            return result

        monkeypatch.setattr(model, name, spy)

    for name in names:
        watch(name, getattr(model, name))
    return calls


def test_the_ratio_goes_linearly_from_start_to_end():
    options = config.Glat(name="glat")
    assert [glancing_ratio(options, progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([0.5, 0.4, 0.3])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_nothing_is_revealed_in_evaluation(name, monkeypatch):
    objective, options, build, decode = OBJECTIVES[name]
    model, pairs = build(), batch(SOURCES, TARGETS)
    if name == "glat":
        expected = vanilla.compute(model, pairs, config.Vanilla(name="vanilla"), step())
    else:
        expected = ctc.compute(model, pairs, config.Ctc(name="ctc", upsampling=3), step())
    calls = spied(monkeypatch, model, decode)
    loss = objective.compute(model, pairs, options, step())
    assert len(calls) == 1 and loss.parts["revealed"] == 0
    assert torch.equal(loss.total, expected.total)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_training_step_encodes_once_and_its_first_pass_has_no_gradient(name, monkeypatch):
    objective, options, build, decode = OBJECTIVES[name]
    model = build().train()
    calls = spied(monkeypatch, model, "encode", decode)
    loss = objective.compute(model, batch(SOURCES, TARGETS), options, step())
    assert [(call.name, call.gradient) for call in calls] == [("encode", True), (decode, False), (decode, True)]
    assert 0 < loss.parts["revealed"] < 1
    loss.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_both_passes_have_the_same_dropout_and_each_step_another(name, monkeypatch):
    objective, _, build, decode = OBJECTIVES[name]
    nothing = OBJECTIVES[name][1].model_copy(update={"start": 0.0, "end": 0.0})
    model = build(dropout=0.3, attention_dropout=0.3).train()
    calls = spied(monkeypatch, model, decode)
    reseed_dropout(1)
    for _ in range(2):
        objective.compute(model, batch(SOURCES, TARGETS), nothing, step())
    one, again, other, last = ((c.result if name == "glat" else c.result[0])[0] for c in calls)
    assert torch.equal(one, again) and torch.equal(other, last)
    assert not torch.isclose(one, other, atol=1e-3).all(2).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rewound_dropout_repeats_itself_once(dtype):
    """torch's own generator, which double precision draws from, is rewound as well."""
    x, y = torch.ones(50, 40, dtype=dtype), torch.ones(3, 5, dtype=dtype)
    reseed_dropout(3)
    dropout(y, 0.5, True)
    with rewound_dropout(x.device):
        first = dropout(x, 0.5, True), dropout(y, 0.5, True)
    second = dropout(x, 0.5, True), dropout(y, 0.5, True)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert not torch.equal(first[0], dropout(x, 0.5, True))


def test_the_most_probable_token_needs_no_scores_of_all_positions_at_once():
    torch.manual_seed(3)
    states, weight = torch.randn(7, 211, 6), torch.randn(11, 6)
    assert torch.equal(most_probable(states, weight), (states @ weight.t()).argmax(-1))
    assert not most_probable(states.requires_grad_(), weight).requires_grad


# ---- GLAT -----------------------------------------------------------------------------------------------------------


def test_gold_tokens_stand_in_revealed_slots_and_the_loss_counts_the_others(monkeypatch):
    model, pairs = parallel().train(), batch(SOURCES, TARGETS)
    _, options, _, decode = OBJECTIVES["glat"]
    calls = spied(monkeypatch, model, decode)
    loss = glat.compute(model, pairs, options, step())
    first, second = (call.given[0] for call in calls)
    target = pairs.target_bt
    assert torch.equal(first, torch.where(target == PAD, PAD, MASK))
    masked = second == MASK
    assert torch.equal(second[~masked], target[~masked])
    assert loss.parts["revealed"] == pytest.approx(1 - masked.sum().item() / pairs.target_tokens)
    expected = masked_loss(model, pairs, options, masked)
    torch.testing.assert_close(loss.total, expected.total)
    torch.testing.assert_close(loss.parts["nll"], expected.parts["nll"])


def guesses(monkeypatch, module, table):
    """Let the first guess be this, whatever the states."""
    monkeypatch.setattr(module, "most_probable", lambda states, weight: table)


def test_the_number_revealed_is_the_ratio_of_the_distance_and_the_places_are_uniform(monkeypatch):
    """Places of which the guess was right are revealed as often as others."""
    model = parallel().train()
    target = padded([[7] * 9, [8] * 5, [9] * 3]).repeat(400, 1)
    guess = target.clone()
    guess[0::3, :7], guess[1::3, 4:] = 6, 6
    guesses(monkeypatch, glat, guess)
    encoded = model.encode(padded(sentences([3]).copy()).repeat(len(target), 1))
    for ratio, counts in ((0.5, [3, 1, 0]), (0.3, [2, 0, 0]), (0.0, [0, 0, 0])):
        found = glat.reveal(model, target, encoded, ratio, torch.Generator().manual_seed(2))
        assert found.sum(1).tolist() == counts * 400
        assert not found[target == PAD].any()
        for row, (count, length) in enumerate(zip(counts, (10, 6, 4), strict=True)):
            share = found[row::3, :length].double().mean(0)
            assert (share - count / length).abs().max() < 5 * (0.25 / 400) ** 0.5


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_model_that_guesses_all_is_shown_nothing(name, monkeypatch):
    objective, options, build, decode = OBJECTIVES[name]
    model, pairs = build().train(), batch(SOURCES[2:], TARGETS[2:])
    guess = pairs.target_bt
    if name == "glat_ctc":
        target = glat_ctc.ctc_target(pairs)
        aligned = torch.zeros(2, 3 * pairs.source_bs.shape[1], dtype=torch.long)
        aligned[:, 1 : 1 + target.tokens_bn.shape[1]] = torch.arange(1, 1 + target.tokens_bn.shape[1])
        monkeypatch.setattr(ctc_alignments, "best_alignment", lambda *_, **__: aligned)
        guess = target.classes_bk.gather(1, aligned)
    guesses(monkeypatch, objective, guess)
    loss = objective.compute(model, pairs, options, step())
    assert loss.parts["revealed"] == 0


def test_what_is_revealed_is_a_function_of_the_generator():
    for objective, options, build, _ in OBJECTIVES.values():
        model, pairs = build().train(), batch(SOURCES, TARGETS)
        one, same, other = (objective.compute(model, pairs, options, step(seed)).total for seed in (1, 1, 2))
        assert torch.equal(one, same) and one != other


def test_places_are_those_of_the_lowest_draws():
    draws = torch.tensor([[0.4, 0.1, 0.3, 0.2], [0.9, 0.8, 0.0, 0.1]])
    real = torch.tensor([[True] * 4, [True, True, False, False]])
    assert lowest(draws, real, torch.tensor([2, 1])).tolist() == [
        [False, True, False, True],
        [False, True, False, False],
    ]


# ---- GLAT with CTC --------------------------------------------------------------------------------------------------


def test_tokens_and_blanks_of_the_best_alignment_stand_in_revealed_slots(monkeypatch):
    """The second source's slots cannot hold its target; nothing is revealed there, nor beyond a source's slots."""
    model, options = parallel(2).train(), config.GlatCtc(name="glat_ctc", start=0.99, end=0.99)
    pairs = batch([[7, 8, 9], [6], [8, 6]], [[6, 7], [7, 8, 9, 6, 7], [9, 9]])
    guesses(monkeypatch, glat_ctc, torch.zeros(3, 8, dtype=torch.long))
    calls = spied(monkeypatch, model, "layers_of_upsampled")
    loss = glat_ctc.compute(model, pairs, options, step())
    given = calls[1].given[3]
    assert (given[1] == PAD).all() and (given[2, 6:] == PAD).all()
    for row, slots, tokens in ((0, 8, {6, 7}), (2, 6, {9})):
        shown = set(given[row].tolist())
        assert BLANK in shown and tokens & shown and shown <= {PAD, BLANK, *tokens}
        assert (given[row] != PAD).sum() >= slots - 2
    assert loss.parts["infeasible"] == pytest.approx(1 / 3) and loss.total.isfinite()
    assert loss.parts["revealed"] == pytest.approx((given != PAD).sum().item() / (8 + 4 + 6))
    loss.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_no_blank_is_revealed_where_that_is_asked(monkeypatch):
    model = parallel(3).train()
    calls = spied(monkeypatch, model, "layers_of_upsampled")
    for reveal in ("slots", "tokens"):
        options = config.GlatCtc(name="glat_ctc", upsampling=3, start=0.99, end=0.99, reveal=reveal)
        glat_ctc.compute(model, batch(SOURCES, TARGETS), options, step())
    slots, tokens = (call.given[3] for call in calls[1::2])
    assert (slots == BLANK).any() and (tokens != PAD).any() and not (tokens == BLANK).any()


@pytest.mark.parametrize("blanks", [True, False])
def test_each_slot_is_revealed_with_the_ratio_times_the_share_of_wrong_slots(blanks, monkeypatch):
    model, target = parallel(2).train(), batch([[7, 8]] * 2000, [[6, 7]] * 2000, step=4)
    # the last two slots are padding
    aligned = torch.tensor([0, 1, 0, 2, 2, 0, 1, 1])
    monkeypatch.setattr(ctc_alignments, "best_alignment", lambda *_, **__: aligned.expand(2000, -1))
    right = torch.tensor([BLANK, 6, BLANK, 7, 7, BLANK, 6, 6])
    guess = torch.where(torch.tensor([True, False, False, True, True, True, False, False]), right, 9)
    guesses(monkeypatch, glat_ctc, guess.expand(2000, -1))
    encoded = model.encode(target.source_bs)
    given, share = glat_ctc.reveal(
        model, target.source_bs, glat_ctc.ctc_target(target), encoded, 0.6, blanks, torch.Generator().manual_seed(4)
    )
    assert (given[:, 6:] == PAD).all()
    given, right = given[:, :6], right[:6]
    revealed = given != PAD
    assert torch.equal(given[revealed], right.expand(2000, -1)[revealed])
    allowed = torch.ones(6, dtype=torch.bool) if blanks else right != BLANK
    assert not revealed[:, ~allowed].any()
    assert (revealed[:, allowed].double().mean(0) - 0.6 * 2 / 6).abs().max() < 5 * (0.16 / 2000) ** 0.5
    assert share == pytest.approx(revealed.double().mean().item())


def test_a_given_token_replaces_the_encoders_state_in_its_slot():
    model, source = parallel(2), padded(SOURCES[:1])
    memory, bias = model.encode(source)
    nothing, slots = model.decode_upsampled(source, memory, bias, torch.full((1, 8), PAD))
    assert torch.equal(nothing, model.decode_upsampled(source, memory, bias)[0]) and slots.tolist() == [8]
    given = torch.tensor([[PAD, 7, PAD, PAD, BLANK, PAD, PAD, PAD]])
    inputs = memory.repeat_interleave(2, 1).clone()
    for t, token in ((1, 7), (4, BLANK)):
        inputs[0, t] = 4.0 * model.embeddings.target[token]
    expected = model.decoder(model.slot_positions(inputs), torch.zeros(2, 1, 8), memory, bias)
    torch.testing.assert_close(model.decode_upsampled(source, memory, bias, given)[0], expected)
