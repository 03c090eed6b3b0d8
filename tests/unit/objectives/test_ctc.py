"""The objective of connectionist temporal classification: sentences that do not fit."""

import pytest
import torch

from retort import config
from retort.losses.ctc_alignments import ctc_nll, ctc_target
from retort.objectives import ctc, glat_ctc, nmla
from retort.objectives.base import Step
from tests.unit.fakes_models import assert_left_out, batch, parallel


def test_sentences_that_do_not_fit_are_counted_and_left_out():
    model, options = parallel(upsampling=2), config.Ctc(name="ctc", upsampling=2)
    # slots are 2 x (length + eos): the first needs 5 of 4, the second 4 of 4, the third 5 of 6
    sources, targets = [[7], [8], [9, 6]], [[6, 7, 7, 8], [6, 7, 8, 9], [7, 7, 7]]
    assert_left_out(ctc.compute, model, sources, targets, options)


def test_a_batch_without_any_sentence_that_fits_has_a_loss_of_zero():
    model, options = parallel(upsampling=1), config.Ctc(name="ctc", upsampling=1)
    loss = ctc.compute(model, batch([[7]], [[6, 7, 8]]), options, Step(torch.Generator()))
    loss.total.backward()
    assert (loss.total, loss.parts["infeasible"]) == (0, 1)
    assert all((p.grad == 0).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("objective", "options"),
    [
        (ctc, config.Ctc(name="ctc", label_smoothing=0.1)),
        (glat_ctc, config.GlatCtc(name="glat_ctc", start=0, end=0)),
        (nmla, config.Nmla(name="nmla", likelihood_weight=1)),
    ],
    ids=lambda given: getattr(given, "name", ""),
)
@pytest.mark.parametrize("training", [True, False])
def test_targets_without_tokens_are_left_out(objective, options, training):
    model = parallel(upsampling=2).train(training)
    sources, targets = [[7, 8], [8, 9, 6]], [[], [7, 8]]
    empty, both, other = (
        objective.compute(model, batch(sources[rows], targets[rows]), options, Step(torch.Generator()))
        for rows in (slice(1), slice(2), slice(1, 2))
    )
    assert empty.parts["nll"] == empty.parts["infeasible"] == 0 and empty.total.isfinite()
    assert both.parts["nll"] == pytest.approx(other.parts["nll"].item())
    torch.testing.assert_close(both.total, other.total)
    for loss in (empty, both):
        model.zero_grad()
        loss.total.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("objective", "options"), [(ctc, config.Ctc), (glat_ctc, config.GlatCtc)])
def test_label_smoothing_is_of_the_mean_slot_in_training_only(objective, options):
    model, pairs = parallel(upsampling=2), batch([[7], [8, 9, 6]], [[6, 7, 7, 8], [7, 8]])
    name = objective.__name__.rpartition(".")[2]
    given = options(name=name, upsampling=2, label_smoothing=0.2, **({"start": 0, "end": 0} if name != "ctc" else {}))
    plain = objective.compute(model, pairs, given, Step(torch.Generator()))
    model.train()
    loss = objective.compute(model, pairs, given, Step(torch.Generator()))
    # the first sentence does not fit; the second has 8 slots, and 2 tokens
    target = ctc_target(pairs)
    states, slots = model.decode_upsampled(pairs.source_bs, *model.encode(pairs.source_bs))
    log_probs = (states @ model.embeddings.output.t()).log_softmax(-1)[1]
    nll = ctc_nll(log_probs[None][..., target.classes_bk[1]], target.tokens_bn[1:], slots[1:], target.length_b[1:])[0]
    expected = 0.8 * nll / 2 - 0.2 * log_probs[:8].mean()
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.parts["nll"], nll / 2)
    torch.testing.assert_close(plain.total, nll / 2)
    loss.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_padding_needs_no_slots():
    target = ctc_target(batch([[7], [8]], [[6, 7, 7, 8], [6]]))
    assert (target.length_b.tolist(), target.slots_b.tolist()) == ([4, 1], [5, 1])


def test_label_smoothing_leaves_out_slots_of_padding():
    model, options = parallel(upsampling=2).train(), config.Ctc(name="ctc", upsampling=2, label_smoothing=0.2)
    sources, targets = [[7], [8, 9, 6, 7, 8]], [[6, 7], [7, 8]]
    both, *alone = (
        ctc.compute(model, batch(sources[rows], targets[rows]), options, Step(torch.Generator())).total
        for rows in (slice(2), slice(1), slice(1, 2))
    )
    torch.testing.assert_close(both, torch.stack(alone).mean())
