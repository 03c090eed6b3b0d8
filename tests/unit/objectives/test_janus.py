"""The model with two modes: what each stream sees, both ways to decode, its losses, and a training of both."""

import itertools

import pytest
import torch
from torch.nn import functional

from retort import config
from retort.data.vocabulary import BOS, MASK, PAD
from retort.losses.masking import random_mask
from retort.losses.poisson_spans import span_mask
from retort.losses.symmetric_divergence import cross_entropies_and_divergences
from retort.losses.teacher_forcing import shifted_right
from retort.models.janus import JanusModel, places, visibility
from retort.objectives import janus
from retort.objectives.base import Step
from retort.objectives.janus import janus_loss
from retort.objectives.shared.predicted_length import length_loss
from tests.unit.fakes_models import (
    assert_decoded_as_alone,
    assert_steps_are_teacher_forcing,
    batch,
    janus_model,
    padded,
    parallel,
    sentences,
)
from tests.unit.fakes_training import sequences, trainer

SOURCES, TARGETS = sentences([3, 9, 6, 5]), sentences([8, 4, 5, 2], seed=1)
SHAPES = {"pre-norm": {}, "post-norm, learned, untied": {"norm": "post", "positions": "learned", "tied": "none"}}
OPTIONS = config.Janus(name="janus")


def table(length: int, masked: set[int]) -> set[tuple[str, int, str, int]]:
    """The attention that is allowed, as (row, its position, column, its position), by the tables of the paper."""
    everywhere = range(length)
    seen = set()
    for p, q in itertools.product(everywhere, everywhere):
        given = q not in masked
        seen.add(("slot", p, "slot", q))
        if p in masked:
            if given or q > p:
                seen.add(("gold", p, "slot", q))
            if not given and q <= p:
                seen.add(("gold", p, "gold", q))
            if given or q >= p:
                seen.add(("query", p, "slot", q))
            if not given and q < p:
                seen.add(("query", p, "gold", q))
    return seen


def test_rows_see_what_the_tables_say():
    lengths, masks = [6, 6, 4, 1, 7], [{1, 2, 4}, set(range(6)), {3}, {0}, {0, 6}]
    real, masked = torch.zeros(5, 8, dtype=torch.bool), torch.zeros(5, 8, dtype=torch.bool)
    for row, (length, places_of_row) in enumerate(zip(lengths, masks, strict=True)):
        real[row, :length] = True
        masked[row, list(places_of_row)] = True
    place, present = places(masked)
    visible = visibility(real, masked, place, present)
    m = place.shape[1]
    assert m == 8 and visible.shape == (5, m + 8 + m, m + 8)
    assert visible.any(2).all()
    for row in range(5):
        golds = [("gold", p) if there else None for p, there in zip(place[row].tolist(), present[row], strict=True)]
        slots = [("slot", t) if t < lengths[row] else None for t in range(8)]
        rows = [*golds, *slots, *[gold and ("query", gold[1]) for gold in golds]]
        found = {
            (*who, *what)
            for i, who in enumerate(rows)
            for j, what in enumerate([*golds, *slots])
            if who and visible[row, i, j] and what
        }
        assert found == table(lengths[row], masks[row])
        hidden = [j for j, what in enumerate([*golds, *slots]) if not what]
        assert not visible[row][:, hidden].any()


def tokens_and_masks(step=1):
    target = padded(TARGETS, step)
    masked = torch.zeros_like(target, dtype=torch.bool)
    for row, places_of_row in enumerate([[1, 2, 4, 8], [0, 1, 2, 3, 4], [3], [2]]):
        masked[row, places_of_row] = True
    return target, masked


@torch.no_grad()
def predicted(model, target, masked):
    memory = model.encode(padded(SOURCES))
    return [model.logits(states) for states in model.decode_masked(target, masked, *memory)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_parallel_mode_is_a_parallel_decoder(shape):
    """Neither gold tokens nor queries change what it computes: a parallel model with the same weights says the same."""
    model, plain = janus_model(**SHAPES[shape]), parallel(seed=5, **SHAPES[shape])
    plain.load_state_dict(model.state_dict())
    target, masked = tokens_and_masks()
    with torch.no_grad():
        states = plain.decode_tokens(target.masked_fill(masked, MASK), *plain.encode(padded(SOURCES)))
    torch.testing.assert_close(predicted(model, target, masked)[0], plain.logits(states)[masked])


@pytest.mark.parametrize("shape", SHAPES)
def test_masked_tokens_are_not_seen_by_what_predicts_them(shape):
    model, (target, masked) = janus_model(**SHAPES[shape]), tokens_and_masks()
    before = predicted(model, target, masked)
    cells = masked.nonzero().tolist()
    for row, place in cells:
        changed = target.clone()
        changed[row, place] = 6 + (changed[row, place] - 5) % 8
        parallel_logits, auxiliary_logits = predicted(model, changed, masked)
        torch.testing.assert_close(parallel_logits, before[0])
        moved = (auxiliary_logits - before[1]).abs().amax(1) > 1e-6
        assert moved.tolist() == [i == row and t > place for i, t in cells]


def test_given_tokens_are_seen_by_all_that_predict():
    model, (target, masked) = janus_model(), tokens_and_masks()
    before = predicted(model, target, masked)
    target[0, 5] = 6 + (target[0, 5] - 5) % 8
    for found, logits in zip(predicted(model, target, masked), before, strict=True):
        assert ((found - logits).abs().amax(1) > 1e-6).tolist() == [row == 0 for row, _ in masked.nonzero().tolist()]


@pytest.mark.parametrize("shape", SHAPES)
def test_left_to_right_nothing_is_seen_of_what_follows(shape):
    model, source, inputs = janus_model(**SHAPES[shape]), padded(SOURCES), shifted_right(padded(TARGETS))
    with torch.no_grad():
        before = model(source, inputs)
        for t in range(inputs.shape[1]):
            changed = inputs.clone()
            changed[:, t] = 6 + (changed[:, t] - 5) % 8
            moved = (model(source, changed) - before).abs().amax((0, 2)) > 1e-6
            assert moved.tolist() == [i >= t for i in range(inputs.shape[1])]


@pytest.mark.parametrize("shape", SHAPES)
def test_step_by_step_is_teacher_forcing(shape):
    model, source, inputs = janus_model(**SHAPES[shape]), padded(SOURCES), shifted_right(padded(TARGETS))
    assert_steps_are_teacher_forcing(model, source, inputs)


def test_both_modes_predict_a_token_at_one_position(monkeypatch):
    model, (target, _) = janus_model(), tokens_and_masks()
    monkeypatch.setattr(JanusModel, "_streams", lambda self, x, *_, content, first, **__: x[:, content:])
    memory = model.encode(padded(SOURCES))
    queries = model.decode(shifted_right(target), *memory)
    plain = model.embeddings.embed_target(torch.full_like(target, MASK))
    assert torch.equal(queries, plain)
    monkeypatch.setattr(JanusModel, "_streams", lambda self, x, *_, content, first, **__: x[:, first:])
    everything = target != PAD
    masks, auxiliary = model.decode_masked(target, everything, *memory)
    assert torch.equal(masks, plain[everything]) and torch.equal(auxiliary, plain[everything])
    for t in range(3):
        stepped = model.step_input(torch.full((4,), BOS), t)
        assert torch.equal(stepped[:, 1], queries[:, t])
        assert torch.equal(stepped[:, 0], model.embeddings.embed_target(torch.full((4, 1), BOS), t)[:, 0])


@pytest.mark.parametrize("search", config.Janus.usual_searches.values(), ids=lambda search: search.kind)
def test_a_batch_decodes_as_its_sources_do_alone(search):
    assert_decoded_as_alone(janus_model(), SOURCES, search)


# ---- losses ---------------------------------------------------------------------------------------------------------


def symmetric(p_logits, q_logits):
    p, q = (torch.log_softmax(x, -1) for x in (p_logits, q_logits))
    there = functional.kl_div(q, p, reduction="sum", log_target=True)
    return (there + functional.kl_div(p, q, reduction="sum", log_target=True)) / 2


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("n", [0, 1, 7, 400])
def test_tied_cross_entropies_and_their_gradients_equal_torchs(n, smoothing):
    torch.manual_seed(1)
    states, weight = torch.randn(3, n, 6, requires_grad=True), torch.randn(11, 6, requires_grad=True)
    target, pairs = torch.randint(11, (n,)), {(0, 1): 3.0, (1, 2): 1.0, (0, 2): 0.5}
    weights = torch.tensor([0.3, 2.0, 0.0])
    found = cross_entropies_and_divergences(states, weight, target, weights, smoothing, pairs)
    logits = states @ weight.t()
    divergence = sum(w * symmetric(logits[i], logits[j]) for (i, j), w in pairs.items())
    smoothed, plain = (
        torch.stack([functional.cross_entropy(x, target, label_smoothing=s, reduction="sum") for x in logits])
        for s in (smoothing, 0.0)
    )
    expected = weights @ smoothed + divergence
    for ours, theirs in zip(found, (expected, plain.detach(), divergence.detach()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    for ours, theirs in zip(
        *(torch.autograd.grad(2 * x, (states, weight), retain_graph=True) for x in (found.total, expected)), strict=True
    ):
        assert n == 0 or theirs.abs().max() > 0.1
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(
            cross_entropies_and_divergences(states, weight, target, weights, smoothing, pairs), found
        )


def test_equal_distributions_do_not_diverge():
    torch.manual_seed(1)
    states, weight = torch.randn(1, 5, 6).repeat(2, 1, 1).requires_grad_(), torch.randn(11, 6)
    found = cross_entropies_and_divergences(
        states, weight, torch.zeros(5, dtype=torch.long), torch.zeros(2), 0.1, {(0, 1): 1.0}
    )
    assert found.total.item() == pytest.approx(0.0, abs=1e-6) and found.divergence == found.total
    assert torch.autograd.grad(found.total, states)[0].abs().max() < 1e-6


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_the_weighted_sum_of_its_parts(training):
    model, pairs, (target, masked) = janus_model().train(training), batch(SOURCES, TARGETS), tokens_and_masks()
    options = config.Janus(
        name="janus",
        autoregressive_weight=2.0,
        parallel_weight=0.7,
        auxiliary_weight=0.3,
        kl_autoregressive_auxiliary=0.4,
        kl_auxiliary_parallel=1.1,
        kl_autoregressive_parallel=0.6,
        length_weight=0.2,
        label_smoothing=0.2,
    )
    loss = janus_loss(model, pairs, options, masked)
    weights = [model.embeddings.target, model.decoder.layers[0].attention.input.weight, model.length.weight]
    gradients = torch.autograd.grad(loss.total, weights)
    ar = model.logits(model(pairs.source_bs, shifted_right(target)))
    memory = model.encode(pairs.source_bs)
    nar, aux = (model.logits(states) for states in model.decode_masked(target, masked, *memory))

    def cross_entropy(logits, tokens):
        return functional.cross_entropy(logits, tokens, label_smoothing=0.2 if training else 0.0)

    real, count = target != PAD, masked.sum()
    both = torch.cat([0.7 * cross_entropy(nar, target[masked])[None], 0.3 * cross_entropy(aux, target[masked])[None]])
    kl = 0.4 * symmetric(ar[masked], aux) + 1.1 * symmetric(aux, nar) + 0.6 * symmetric(ar[masked], nar)
    tokens = 2 * cross_entropy(ar[real], target[real]) + both.sum() + kl / count
    length = length_loss(model, pairs, memory[0])
    torch.testing.assert_close(loss.total, tokens + 0.2 * length)
    torch.testing.assert_close(loss.parts["nll"], functional.cross_entropy(ar[real], target[real]).detach())
    torch.testing.assert_close(loss.parts["parallel"], functional.cross_entropy(nar, target[masked]).detach())
    torch.testing.assert_close(loss.parts["auxiliary"], functional.cross_entropy(aux, target[masked]).detach())
    torch.testing.assert_close(loss.parts["divergence"], (kl / count).detach())
    for ours, theirs in zip(gradients, torch.autograd.grad(tokens + 0.2 * length, weights), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_each_mode_reads_an_encoding_with_dropout_of_its_own(monkeypatch):
    model, (_, masked) = janus_model(dropout=0.3).train(), tokens_and_masks()
    encode, read = model.encode, []

    def watched(source_bs):
        read.append(encode(source_bs))
        return read[-1]

    monkeypatch.setattr(model, "encode", watched)
    janus_loss(model, batch(SOURCES, TARGETS), OPTIONS, masked)
    (one, _), (other, _) = read
    assert not torch.isclose(one, other, atol=1e-3).all(2).any()


def test_padding_does_not_change_the_loss():
    model = janus_model()
    tight, wide = (
        janus_loss(model, batch(SOURCES, TARGETS, step), OPTIONS, tokens_and_masks(step)[1]) for step in (1, 16)
    )
    torch.testing.assert_close(wide.total, tight.total)
    torch.testing.assert_close(wide.parts, tight.parts)


def test_divergences_of_weight_0_are_left_out(monkeypatch):
    model, pairs, (_, masked) = janus_model(), batch(SOURCES, TARGETS), tokens_and_masks()
    names = ("kl_autoregressive_auxiliary", "kl_auxiliary_parallel", "kl_autoregressive_parallel")
    without = OPTIONS.model_copy(update=dict.fromkeys(names, 0.0))
    monkeypatch.setattr(
        "retort.losses.symmetric_divergence._laplacian", lambda pairs, k: None if pairs else torch.zeros(k, k)
    )
    assert janus_loss(model, pairs, without, masked).parts["divergence"] == 0


@pytest.mark.parametrize("masking", ["uniform", "span"])
def test_random_masks_are_a_function_of_the_step(masking):
    model, pairs = janus_model(), batch(SOURCES, TARGETS)
    options = OPTIONS.model_copy(update={"masking": masking})
    totals = [janus.compute(model, pairs, options, Step(torch.Generator().manual_seed(i))).total for i in (1, 1, 2)]
    assert totals[0] == totals[1] != totals[2]


def test_masks_are_spans_of_two_tokens_over_seven_tenths_where_that_is_asked():
    model, pairs = janus_model(), batch(SOURCES, TARGETS)
    masks = {
        "uniform": random_mask(pairs.target_bt, torch.Generator().manual_seed(1)),
        "span": span_mask(pairs.target_bt, 0.7, 2.0, torch.Generator().manual_seed(1)),
    }
    for masking, masked in masks.items():
        options = OPTIONS.model_copy(update={"masking": masking})
        found = janus.compute(model, pairs, options, Step(torch.Generator().manual_seed(1)))
        assert found.total == janus_loss(model, pairs, options, masked).total


def test_parts_say_what_they_are_means_over():
    model, (_, masked) = janus_model(), tokens_and_masks()
    whole = janus_loss(model, batch(SOURCES, TARGETS), OPTIONS, masked)
    halves = []
    for own in (slice(0, 2), slice(2, 4)):
        pairs = batch(SOURCES[own], TARGETS[own])
        halves.append(janus_loss(model, pairs, OPTIONS, masked[own, : pairs.target_bt.shape[1]]))
    for name, count in whole.counts.items():
        assert count == sum(half.counts[name] for half in halves)
        total = sum(float(half.parts[name] * half.counts[name]) for half in halves)
        assert total / count == pytest.approx(float(whole.parts[name]), rel=1e-5)


@pytest.mark.slow
def test_one_training_teaches_both_modes(tmp_path):
    train, valid = sequences(4000, 1), sequences(200, 2)
    greedy, passes = config.Greedy(kind="greedy"), config.MaskPredict(kind="mask_predict", length_beam=1)
    settings = {"max_updates": 150, "warmup": 40, "learning_rate": 0.01, "schedule": "cosine", "validate_every": 150}
    learner = trainer(tmp_path, "janus", train, valid, passes, batch_tokens=512, **settings)
    result = learner.run(tmp_path / "events")
    learner.validator.search = greedy
    assert result.scores["BLEU"] > 98 and learner.validator(learner.model)["BLEU"] > 98
