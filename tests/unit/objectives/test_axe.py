"""Aligned cross entropy against its vectors, the plain recurrence, and all alignments of small sentences."""

import itertools
import math

import pytest
import torch

from retort import config
from retort.data.vocabulary import BLANK, EOS, MASK, PAD
from retort.losses.axe_alignment import alignment, placements
from retort.losses.token_log_probs import token_log_probs, uniform_log_probs
from retort.objectives import axe, vanilla
from retort.objectives.axe import slot_inputs
from retort.objectives.base import Step
from retort.search.base import run_search
from tests.unit.fakes_models import VOCABULARY, FakeParallel, autoregressive, batch, padded, parallel, sentences

SOURCES, TARGETS = sentences([3, 9, 6, 5]), sentences([8, 4, 5, 2], seed=1)
THREE = [[0.1, 0.6, 0.1, 0.2], [0.1, 0.2, 0.6, 0.1], [0.7, 0.1, 0.1, 0.1]]
TWO = [[0.1, 0.2, 0.5, 0.2], [0.1, 0.2, 0.2, 0.5]]
SHIFTED = [[0.8 if v == token else 0.05 for v in range(5)] for token in (4, 1, 2, 3)]
VECTORS = [
    *((THREE, [1, 2], delta, 1.3783) for delta in (1, 2, 5)),
    (TWO, [1, 2, 3], 1, 2.9957),
    (TWO, [1, 2, 3], 2, 3.6889),
    (TWO, [1, 2, 3], 5, 5.7683),
    (SHIFTED, [1, 2, 3, 4], 1, 6.6609),
    (SHIFTED, [1, 2, 3, 4], 5, 11.9829),
    ([[0.05, 0.8, 0.05, 0.1]], [1, 2], 2, 3.4420),
]


def value(log_probs_jk, slots, length, delta):
    """The loss of one sentence; class 0 is the blank."""
    weights = alignment(log_probs_jk[None], torch.tensor([slots]), torch.tensor([length]), delta)
    return -(weights * log_probs_jk).sum()


def recurrence(log_probs_jk, slots, length, delta):
    """The table, cell by cell."""
    cost = (-log_probs_jk).tolist()
    a = [[math.inf] * (slots + 1) for _ in range(length + 1)]
    a[0][0] = 0.0
    for i, j in itertools.product(range(length + 1), range(slots + 1)):
        if i:
            a[i][j] = min(a[i][j], a[i - 1][j] + delta * cost[max(j, 1) - 1][i])
        if j:
            a[i][j] = min(a[i][j], a[i][j - 1] + cost[j - 1][0])
        if i and j:
            a[i][j] = min(a[i][j], a[i - 1][j - 1] + cost[j - 1][i])
    return a[length][slots]


def random_log_probs(slots, length, seed, dtype=torch.float64):
    """Of a distribution that has other tokens, too."""
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(2 * torch.randn(slots, length + 3, generator=generator, dtype=dtype), -1)[:, : length + 1]


@pytest.mark.parametrize(("probabilities", "target", "delta", "expected"), VECTORS)
def test_known_values(probabilities, target, delta, expected):
    log_probs = torch.tensor(probabilities).log()[:, [0, *target]]
    assert value(log_probs, len(probabilities), len(target), delta) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("delta", [1.0, 1.5, 4.0])
@pytest.mark.parametrize(("slots", "length"), [(1, 1), (1, 4), (4, 1), (3, 6), (6, 3), (5, 5), (9, 11)])
def test_diagonals_give_what_the_recurrence_gives(slots, length, delta):
    for seed in range(4):
        log_probs = random_log_probs(slots, length, seed)
        assert float(value(log_probs, slots, length, delta)) == pytest.approx(
            recurrence(log_probs, slots, length, delta)
        )


@pytest.mark.parametrize(("slots", "length"), [(1, 3), (4, 2), (3, 4), (4, 4)])
def test_without_a_penalty_it_is_the_best_monotonic_alignment(slots, length):
    for seed in range(5):
        log_probs = random_log_probs(slots, length, seed)
        best = max(
            sum(float(log_probs[j, i + 1]) for i, j in enumerate(path))
            + sum(float(log_probs[j, 0]) for j in set(range(slots)) - set(path))
            for path in itertools.combinations_with_replacement(range(slots), length)
        )
        assert float(value(log_probs, slots, length, 1.0)) == pytest.approx(-best)


def test_the_sentences_of_a_batch_are_aligned_apart_whatever_their_padding_holds():
    sizes = [(1, 1), (7, 3), (3, 7), (5, 5), (2, 6), (7, 7)]
    alone = [random_log_probs(*size, seed=3) for size in sizes]
    together = torch.full((len(sizes), 8, 9), -1e-3, dtype=torch.float64)
    for row, log_probs in zip(together, alone, strict=True):
        row[: log_probs.shape[0], : log_probs.shape[1]] = log_probs
    slots, lengths = torch.tensor(sizes).unbind(1)
    weights = alignment(together, slots, lengths, 2.0)
    for found, log_probs, (j, i) in zip(weights, alone, sizes, strict=True):
        own = alignment(log_probs[None], torch.tensor([j]), torch.tensor([i]), 2.0)[0]
        assert torch.equal(found[:j, : i + 1], own) and found.sum() == own.sum()


@pytest.mark.parametrize("delta", [1.0, 2.5])
@pytest.mark.parametrize(("slots", "length"), [(4, 6), (6, 4), (5, 5)])
def test_the_gradient_is_that_of_the_recurrence(slots, length, delta):
    log_probs = random_log_probs(slots, length, seed=7).requires_grad_()
    found = torch.autograd.grad(value(log_probs, slots, length, delta), log_probs)[0]
    plain, step = log_probs.detach(), 1e-6
    for j, k in itertools.product(range(slots), range(length + 1)):
        moved = [plain.clone(), plain.clone()]
        moved[0][j, k] += step
        moved[1][j, k] -= step
        up, down = (recurrence(x, slots, length, delta) for x in moved)
        assert float(found[j, k]) == pytest.approx((up - down) / (2 * step), abs=1e-4)


def test_every_slot_and_every_target_is_charged_for():
    for seed, (slots, length) in enumerate([(4, 9), (9, 4), (7, 7)]):
        log_probs = random_log_probs(slots, length, seed)
        weights = alignment(log_probs[None], torch.tensor([slots]), torch.tensor([length]), 3.0)[0]
        assert ((weights[:, 1:] > 0).sum(0) == 1).all()
        assert (weights[:, 0] + (weights[:, 1:] > 0).any(1) == 1).all()
        assert set(weights.unique().tolist()) <= {0.0, 1.0, 3.0}


def test_float32_suffices_for_long_sentences():
    log_probs = random_log_probs(200, 180, seed=1)
    exact = value(log_probs, 200, 180, 2.0)
    assert float(value(log_probs.float(), 200, 180, 2.0)) == pytest.approx(float(exact), rel=1e-5)


def test_slots_learn_to_say_the_target_and_blanks():
    """Follow the gradient: what slots hold that start out as the target with a word too many in front of it."""
    target = [7, 7, 8, 9]
    states = torch.nn.functional.one_hot(torch.tensor([[6, *target, 10]]), 12).double().requires_grad_()
    for _ in range(20):
        log_probs = torch.log_softmax(states, -1)[:, :, [BLANK, *target]]
        loss = -(alignment(log_probs, torch.tensor([6]), torch.tensor([4]), 2.0) * log_probs).sum()
        states.data -= torch.autograd.grad(loss, states)[0]
    assert states[0].argmax(-1).tolist() == [BLANK, *target, BLANK]


# ---- the objective --------------------------------------------------------------------------------------------------


def model_and_options(**keys):
    options = config.Axe(name="axe", **keys)
    return parallel(blank=True, length_multiplier=options.length_multiplier), options


def whole_log_probs(model, pairs, input_bj):
    states = model.decode_tokens(input_bj, *model.encode(pairs.source_bs))
    return torch.log_softmax(model.logits(states).float(), -1)


@pytest.mark.parametrize("keys", [{}, {"length_multiplier": 1.4, "skip_target": 1.0}, {"label_smoothing": 0.0}])
def test_the_loss_and_its_parts(keys):
    model, options = model_and_options(**keys)
    pairs = batch(SOURCES, TARGETS)
    loss = axe.compute(model.train(), pairs, options, Step(torch.Generator()))
    lengths = [len(target) + 1 for target in TARGETS]
    slots = [int(n * options.length_multiplier + 0.5) for n in lengths]
    nats = uniform = blanks = 0.0
    inputs, _, _ = slot_inputs(model, pairs.target_bt)
    assert [row.tolist() for row in inputs] == [[MASK] * m + [PAD] * (inputs.shape[1] - m) for m in slots]
    log_probs = whole_log_probs(model, pairs, inputs)
    for row, target, m, n in zip(log_probs, TARGETS, slots, lengths, strict=True):
        own = row[:m, [BLANK, *target, EOS]]
        nats += recurrence(own, m, n, options.skip_target)
        uniform -= float(row[:m].detach().mean(1).sum())
        blanks += float(alignment(own[None], torch.tensor([m]), torch.tensor([n]), options.skip_target)[..., 0].sum())
    share, tokens = options.label_smoothing, sum(lengths)
    assert float(loss.parts["nll"]) == pytest.approx(nats / tokens, rel=1e-5)
    expected = ((1 - share) * nats + share * uniform) / tokens + 0.1 * float(loss.parts["length"])
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-5)
    assert float(loss.parts["blanks"]) == pytest.approx(blanks / sum(slots))
    assert float(loss.parts["skipped"]) == pytest.approx((tokens - sum(slots) + blanks) / tokens)


def test_without_blanks_or_skips_it_is_position_wise_cross_entropy():
    """A blank that nothing favours, and a penalty that nothing is worth."""
    model, options = model_and_options(length_multiplier=1.0, skip_target=1e4)
    pairs = batch(SOURCES, TARGETS)
    loss = axe.compute(model, pairs, options, Step(torch.Generator()))
    inputs, _, _ = slot_inputs(model, pairs.target_bt)
    real = pairs.target_bt != PAD
    nll = -whole_log_probs(model, pairs, inputs).gather(2, pairs.target_bt[:, :, None])[:, :, 0][real].mean()
    torch.testing.assert_close(loss.parts["nll"], nll)
    assert loss.parts["blanks"] == loss.parts["skipped"] == 0


def test_the_uniform_cross_entropy_needs_no_logits():
    torch.manual_seed(2)
    states, weight = torch.randn(3, 7, 6, requires_grad=True), torch.randn(11, 6, requires_grad=True)
    tokens = torch.tensor([[5, 7], [8, 6], [5, 0]])
    found = uniform_log_probs(states, weight, tokens, token_log_probs(states, weight, tokens))
    expected = torch.log_softmax(states @ weight.t(), -1).mean(-1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(found)
    for x in (states, weight):
        ours, theirs = (torch.autograd.grad((y * direction).sum(), x, retain_graph=True)[0] for y in (found, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_visible_tokens_stand_in_order_among_the_slots():
    model, _ = model_and_options(length_multiplier=1.5)
    target = padded([[6, 7, 8, 9], [10, 11]])
    visible = torch.tensor([[True, False, True, True, False], [False, True, True, True, True]])
    found, slots, lengths = slot_inputs(model, target, visible)
    assert (slots.tolist(), lengths.tolist()) == ([8, 5], [5, 3])
    assert found.tolist() == [[6, MASK, MASK, 8, 9, MASK, MASK, MASK], [MASK, 11, MASK, EOS, MASK, PAD, PAD, PAD]]


def test_the_longest_targets_have_no_surplus_slots():
    model, options = model_and_options(length_multiplier=1.5, masking="random")
    pairs = batch([[7]] * 2, sentences([model.config.max_length - 1, 30]), step=16)
    found, slots, _ = slot_inputs(model, pairs.target_bt, pairs.target_bt != PAD)
    assert slots.tolist() == [40, 40] and found.shape == (2, 40) and torch.equal(found[0], pairs.target_bt[0, :40])
    assert axe.compute(model, pairs, options, Step(torch.Generator())).total.isfinite()


def test_random_masks_show_part_of_the_target(monkeypatch):
    model, options = model_and_options(masking="random", length_multiplier=1.0)
    pairs, seen = batch(SOURCES, TARGETS), []
    decode = model.decode_tokens
    monkeypatch.setattr(model, "decode_tokens", lambda x, *memory: seen.append(x) or decode(x, *memory))
    axe.compute(model, pairs, options, Step(torch.Generator().manual_seed(3)))
    assert ((seen[0] == pairs.target_bt) | (seen[0] == MASK)).all() and (seen[0] == MASK).any(1).all()
    assert ((seen[0] != MASK) & (seen[0] != PAD)).any()


# ---- likelihood -----------------------------------------------------------------------------------------------------


def test_placements_are_summed():
    sizes = [(5, 3), (4, 4), (6, 1)]
    together = torch.zeros(3, 6, 5, dtype=torch.float64)
    expected = []
    for row, (slots, length) in zip(together, sizes, strict=True):
        own = random_log_probs(slots, length, seed=slots)
        row[:slots, : length + 1] = own
        paths = itertools.combinations(range(slots), length)
        classes = [[path.index(j) + 1 if j in path else 0 for j in range(slots)] for path in paths]
        expected.append(torch.stack([own[range(slots), c].sum() for c in classes]).logsumexp(0))
    found = placements(together, *torch.tensor(sizes).unbind(1))
    torch.testing.assert_close(found, torch.stack(expected))


def test_without_surplus_slots_the_likelihood_is_that_of_the_vanilla_objective():
    model, options = model_and_options(length_multiplier=1.0)
    pairs = batch(SOURCES, TARGETS)
    expected = vanilla.log_likelihood(model, pairs, config.Vanilla(name="vanilla"))
    torch.testing.assert_close(axe.log_likelihood(model, pairs, options), expected)


def test_the_likelihood_is_above_that_of_the_best_placement():
    """The aligned cross entropy, where no target may be skipped, is the best summand."""
    model, options = model_and_options(length_multiplier=1.5, skip_target=1e4)
    for source, target in zip(SOURCES, TARGETS, strict=True):
        pairs = batch([source], [target])
        parts = axe.compute(model, pairs, options, Step(torch.Generator())).parts
        assert parts["skipped"] == 0
        best = -parts["nll"] * pairs.target_tokens - parts["length"]
        assert best < axe.log_likelihood(model, pairs, options)[0] < best + math.log(math.comb(14, 5))


# ---- search ---------------------------------------------------------------------------------------------------------


def filled(tokens, **options):
    logits = torch.full((len(tokens), VOCABULARY), -5.0)
    logits[range(len(tokens)), tokens] = 2.0
    model = FakeParallel(lambda _: logits, lengths=[len(tokens)])
    model.blank = True
    return run_search(model, padded([[7]]), config.Argmax(kind="argmax", **options))[0][0]


def test_blanks_are_deleted_but_what_they_part_is_not_merged():
    assert filled([6, BLANK, 6, 7, BLANK, BLANK, EOS]).tokens == [6, 6, 7]
    assert filled([6, BLANK, 6, 7, 7, EOS], deduplicate="remove").tokens == [6, 7]
    assert filled([6, BLANK, BLANK, BLANK, 7, EOS], deduplicate="odd").tokens == [6, 7]


@pytest.mark.parametrize(
    "options",
    [
        config.Argmax(kind="argmax", length_beam=3),
        config.Argmax(kind="argmax", deduplicate="odd"),
        config.LengthParallel(kind="length_parallel", candidates=5),
    ],
    ids=["argmax", "odd", "teacher's choice"],
)
def test_a_batch_of_sentences_gives_what_each_gives_alone(options):
    model, teacher = parallel(seed=1, blank=True, length_multiplier=1.4), autoregressive(seed=1)
    model.embeddings.output.data[BLANK] *= 1.5
    lists = sentences([3, 12, 1, 7, 9, 2], seed=3)
    together = run_search(model, padded(lists), options, teacher)
    for tokens, ours in zip(lists, together, strict=True):
        (alone,) = run_search(model, padded([tokens]), options, teacher)
        assert [h.tokens for h in ours] == [h.tokens for h in alone]
        assert [h.score for h in ours] == pytest.approx([h.score for h in alone], rel=1e-4)
        assert all(BLANK not in h.tokens for h in ours)
    # blanks are what differs in length beside the slots
    assert len({len(h.tokens) for best in together for h in best}) > 3


@pytest.mark.parametrize("multiplier", [1.0, 1.5])
def test_slots_are_the_multiple_of_the_predicted_length(multiplier):
    model = parallel(blank=True, length_multiplier=multiplier)
    torch.nn.init.zeros_(model.length.weight)
    torch.nn.init.zeros_(model.length.bias)
    model.length.bias.data[64 + 3] = 30.0
    seen, decode = [], model.decode_tokens
    model.decode_tokens = lambda x, *memory: seen.append(x) or decode(x, *memory)
    run_search(model, padded(sentences([3, 6])), config.Argmax(kind="argmax"))
    assert (seen[0] == MASK).sum(1).tolist() == [int(n * multiplier + 0.5) for n in (7, 10)]
