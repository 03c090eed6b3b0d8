"""The objective of connectionist temporal classification: sentences that do not fit."""

import torch

from retort import config
from retort.objectives import ctc
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
