"""The objective of aligned cross entropy: its slots, loss, likelihood and search."""

import math

import pytest
import torch

from retort import config
from retort.data.vocabulary import BLANK, EOS, MASK, PAD
from retort.losses.axe_alignment import alignment
from retort.objectives import axe, vanilla
from retort.objectives.axe import slot_inputs
from retort.objectives.base import Step
from retort.search.base import run_search
from tests.unit.fakes_losses import axe_recurrence
from tests.unit.fakes_models import (
    VOCABULARY,
    FakeParallel,
    assert_decoded_as_alone,
    autoregressive,
    batch,
    padded,
    parallel,
    sentences,
)

SOURCES, TARGETS = sentences([3, 9, 6, 5]), sentences([8, 4, 5, 2], seed=1)


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
        nats += axe_recurrence(own, m, n, options.skip_target)
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
    model, options = model_and_options(length_multiplier=1.0, skip_target=1e3)
    pairs = batch(SOURCES, TARGETS)
    loss = axe.compute(model, pairs, options, Step(torch.Generator()))
    inputs, _, _ = slot_inputs(model, pairs.target_bt)
    real = pairs.target_bt != PAD
    nll = -whole_log_probs(model, pairs, inputs).gather(2, pairs.target_bt[:, :, None])[:, :, 0][real].mean()
    torch.testing.assert_close(loss.parts["nll"], nll)
    assert loss.parts["blanks"] == loss.parts["skipped"] == 0


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


def test_without_surplus_slots_the_likelihood_is_that_of_the_vanilla_objective():
    model, options = model_and_options(length_multiplier=1.0)
    pairs = batch(SOURCES, TARGETS)
    expected = vanilla.log_likelihood(model, pairs, config.Vanilla(name="vanilla"))
    torch.testing.assert_close(axe.log_likelihood(model, pairs, options), expected)


def test_the_likelihood_is_above_that_of_the_best_placement():
    """The aligned cross entropy, where no target may be skipped, is the best summand."""
    model, options = model_and_options(length_multiplier=1.5, skip_target=1e3)
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
    together = assert_decoded_as_alone(model, lists, options, teacher)
    assert all(BLANK not in h.tokens for best in together for h in best)
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
