"""Imitation in the training loop: what is learnt, outputs shared by updates, and resuming bit for bit."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from retort.config import Greedy, Imitation, Mixture, Rollout
from retort.data.batches import EncodedCorpus, Ragged
from retort.data.vocabulary import EOS
from tests.unit.fakes_training import OBJECTIVES, interrupt, sequences, trainer


def options(labels="full", **changes):
    return Imitation(name="imitation", labels=labels, **changes)


class Oracle:
    """Says the source from its end, whatever stands before; is sure of it."""

    def __init__(self, size, max_length):
        self.config = SimpleNamespace(max_length=max_length)
        self.embeddings = SimpleNamespace(output=torch.eye(size))

    def __call__(self, source_bs, input_bt):
        length_b1 = (source_bs > EOS).sum(1, keepdim=True)
        positions_bt = length_b1 - 1 - torch.arange(input_bt.shape[1])
        token_bt = source_bs.gather(1, positions_bt.clamp(min=0)).masked_fill(positions_bt < 0, EOS)
        return 12.0 * functional.one_hot(token_bt, len(self.embeddings.output))


def learner(path, monkeypatch, objective, teacher=True, **settings):
    monkeypatch.setitem(OBJECTIVES, "imitation", objective)
    valid = sequences(100, 2, reverse=True)
    train = sequences(4000, 1)
    rng = np.random.default_rng(1)
    nonsense = Ragged(rng.permutation(train.target.tokens), train.target.offsets)
    train = EncodedCorpus(train.ids, train.source, nonsense)
    defaults = {"batch_tokens": 512, "warmup": 5, "validate_every": 100, "learning_rate": 0.01, "schedule": "cosine"}
    made = trainer(path, "imitation", train, valid, Greedy(kind="greedy"), **{**defaults, **settings})
    made.teacher = Oracle(len(made.model.embeddings.output), 256) if teacher else None
    return made


@pytest.mark.slow
def test_learns_what_the_teacher_says_not_what_the_data_say(tmp_path, monkeypatch):
    made = learner(tmp_path, monkeypatch, options(beta=Mixture()), max_updates=250, validate_every=250, warmup=60)
    assert made.run(tmp_path / "events").scores["BLEU"] > 60


def test_training_at_the_data_s_prefixes_is_training_as_autoregressive(tmp_path, monkeypatch):
    own = learner(tmp_path / "own", monkeypatch, options("hard", beta=Mixture(share=1)), teacher=False, max_updates=7)
    plain = trainer(
        tmp_path / "plain",
        "autoregressive",
        own.corpus,
        sequences(100, 2, reverse=True),
        Greedy(kind="greedy"),
        **own.settings.model_dump(exclude={"precision"}),
    )
    results = [made.run(tmp_path / "events") for made in (own, plain)]
    assert torch.equal(own.optimiser.master, plain.optimiser.master)
    assert results[0].scores == results[1].scores


def test_outputs_are_made_once_for_several_updates_and_at_their_start(tmp_path, monkeypatch):
    made = learner(tmp_path, monkeypatch, options(rollout=Rollout(updates=3)), max_updates=8, accumulate=2)
    calls = []
    prepared = made.prepare

    def watched(model, batches, objective, steps):
        calls.append((made.progress.update, len(batches), [s.progress for s in steps], made.progress.position))
        return prepared(model, batches, objective, steps)

    made.prepare = watched
    made.run(tmp_path / "events")
    assert [call[:2] for call in calls] == [(0, 6), (3, 6), (6, 4)]
    assert calls[1][2] == [3 / 8, 3 / 8, 4 / 8, 4 / 8, 5 / 8, 5 / 8]
    assert [call[3] for call in calls] == [0, 6, 12], "batches count as used when they are"
    assert made.progress.position == 16


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["greedy", "sample"])
def test_a_resumed_training_is_bit_equal_and_states_lie_between_calls(tmp_path, monkeypatch, kind):
    objective = options("hard", beta=Mixture(schedule="linear", share=0.2), rollout=Rollout(kind=kind, updates=3))
    settings = {"max_updates": 11, "checkpoint_minutes": 1e-9, "dropout": 0.2, "validate_every": 4}
    whole = learner(tmp_path / "whole", monkeypatch, objective, **settings)
    saved, save = [], whole.state.save
    whole.state.save = lambda update, *rest: saved.append(update) or save(update, *rest)
    expected = whole.run(tmp_path / "events")
    assert saved == [3, 6, 9, 11]

    first = learner(tmp_path / "parts", monkeypatch, objective, **settings)
    interrupt(first, tmp_path / "events", 8)
    second = learner(tmp_path / "parts", monkeypatch, objective, **settings)
    result = second.run(tmp_path / "events")
    assert torch.equal(second.optimiser.master, whole.optimiser.master)
    assert (result.scores, result.epochs, result.tokens) == (expected.scores, expected.epochs, expected.tokens)
