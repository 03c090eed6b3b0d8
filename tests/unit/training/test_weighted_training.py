"""Weighted samples in the training loop: what the log says, and resuming bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from retort.config import Argmax, CtcCollapse, Nmla, SelectiveMixture, SelfPaced, WeightedMixture
from retort.data.batches import EncodedCorpus, Ragged
from retort.errors import RetortError
from retort.objectives.base import Step
from retort.training import loop
from retort.training.weighting import Scores, Weighting, samples_of_kinds
from tests.unit.fakes_training import OBJECTIVES, interrupt, sequences, trainer
from tests.unit.training.test_health import overfull

SEARCHES = {"vanilla": Argmax(kind="argmax"), "ctc": CtcCollapse(kind="ctc_collapse")}
RECIPES = {
    "loss": (None, SelfPaced(full=0.9)),
    "window": (None, SelfPaced(among="window", window=50, full=0.9)),
    "linear": (WeightedMixture(kind="weighted", weight=0.3), SelfPaced(weights="linear", full=0.9)),
    "agreement": (None, SelfPaced(criterion="agreement", among="window", window=50, full=0.9)),
    "random": (None, SelfPaced(random=True, full=0.9)),
    "selective": (SelectiveMixture(kind="selective", evaluator="e"), None),
}


def two_targets(pairs: int) -> EncodedCorpus:
    """References are the source, translations its reverse."""
    raw, distilled = sequences(pairs, 1), sequences(pairs, 1, reverse=True)
    source = Ragged.from_lists(raw.source.lists() * 2)
    target = Ragged.from_lists(raw.target.lists() + distilled.target.lists())
    return EncodedCorpus(np.tile(raw.ids, 2), source, target, np.arange(2 * pairs) >= pairs)


SHORT = {"max_updates": 8, "warmup": 2, "validate_every": 4, "decode_sentences": 5}


def learner(path, recipe="loss", objective="vanilla", **settings):
    train = two_targets(60)
    defaults = {"max_updates": 18, "warmup": 2, "validate_every": 4, "batch_tokens": 128, "decode_sentences": 5}
    defaults |= {"accumulate": 2, "dropout": 0.3, "average_best": 2, "checkpoint_minutes": 1e-9}
    made = trainer(path, objective, train, sequences(20, 2), SEARCHES[objective], **{**defaults, **settings})
    made.validator.others = samples_of_kinds(train, 10)
    scores = Scores(train.ids, np.random.default_rng(1).random(len(train.ids)))
    made.weighting = Weighting(OBJECTIVES[objective], *RECIPES[recipe], evaluator=scores)
    return made


def timeless(rows):
    return [row[:4] for row in rows if row[2] not in ("seconds", "tokens_per_second", "processor_seconds")]


def test_the_scale_of_a_batch_scales_its_gradients(tmp_path):
    made = learner(tmp_path, "selective", dropout=0.0)
    made.weighting = None
    [(_, batch, step), *_] = next(made._work()).parts
    sums = []
    for scale in (None, torch.tensor(0.25)):
        made.optimiser.total.zero_()
        made._gradients(1, 0, batch=replace(batch, scale=scale), step=step)
        sums.append(made.optimiser.total.clone())
    assert sums[0].abs().max() > 0 and torch.allclose(0.25 * sums[0], sums[1], rtol=1e-4, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "objective"), [*((r, "vanilla") for r in RECIPES), ("loss", "ctc")])
def test_a_resumed_training_is_bit_equal(tmp_path, monkeypatch, recipe, objective):
    monkeypatch.setattr(loop, "LOG_EVERY", 5)
    whole = learner(tmp_path / "whole", recipe, objective)
    expected = whole.run(tmp_path / "events")

    first = learner(tmp_path / "parts", recipe, objective)
    save = first.state.save
    # between two lines of the log, with samples waiting
    first.state.save = lambda update, *rest: save(update, *rest) if update == 8 else None
    interrupt(first, tmp_path / "events", 11)
    second = learner(tmp_path / "parts", recipe, objective)
    result = second.run(tmp_path / "events")
    windows = [made.progress.weighting.get("windows") for made in (whole, second)]
    assert windows[0] == windows[1] and bool(windows[0]) == (recipe in ("window", "agreement"))
    assert torch.equal(second.optimiser.master, whole.optimiser.master)
    assert timeless(result.rows) == timeless(expected.rows)
    assert (result.tokens, result.scores) == (expected.tokens, expected.scores)
    kept = [row[3] for row in result.rows if row[1:3] == ["train", "kept"]]
    assert len(kept) == 3 and (min(kept) < 0.9 or recipe == "linear")


@pytest.mark.slow
def test_the_log_has_the_share_kept_of_each_kind_and_their_losses(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 10)
    made = learner(tmp_path, max_updates=100, validate_every=20, accumulate=1)
    rows = made.run(tmp_path / "events").rows
    for name in ("kept", "kept_raw", "kept_distilled"):
        values = [row[3] for row in rows if row[1:3] == ["train", name]]
        assert values[0] == 1 and 0.4 < values[1] < 0.75 and values[-1] == 1 and 0.8 < values[-3] <= 1
    for name in ("loss_raw", "loss_distilled"):
        assert [row[0] for row in rows if row[1:3] == ["valid", name]] == [20, 40, 60, 80, 100]


@pytest.mark.slow
def test_a_selective_training_goes_over_to_the_teacher_s_targets(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 10)
    made = learner(tmp_path, "selective", max_updates=60, accumulate=1)
    shares = [row[3] for row in made.run(tmp_path / "events").rows if row[1:3] == ["train", "kept_distilled"]]
    assert 0.3 < shares[0] < 0.6 and shares[-1] > 0.85 and shares == pytest.approx(sorted(shares), abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["loss", "agreement", "random"])
@pytest.mark.parametrize("among", ["batch", "window"])
def test_pairs_that_no_alignment_fits_are_counted_and_are_no_part_of_the_share(tmp_path, monkeypatch, among, criterion):
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    train = overfull(pairs=60, long=24)
    made = trainer(tmp_path, "ctc", train, sequences(20, 2), SEARCHES["ctc"], **SHORT)
    paced = SelfPaced(among=among, window=50, start=0.5, end=0.5, warmup=0.0)
    paced = paced.model_copy(update={"random": True} if criterion == "random" else {"criterion": criterion})
    made.weighting = Weighting(OBJECTIVES["ctc"], None, paced)
    result = made.run(tmp_path / "events")
    infeasible = [row[3] for row in result.rows if row[1:3] == ["train", "infeasible"]]
    kept = [row[3] for row in result.rows if row[1:3] == ["train", "kept"]]
    assert np.mean(infeasible) == pytest.approx(0.4, abs=0.05) and np.mean(kept) == pytest.approx(0.3, abs=0.05)
    assert "are pairs whose target does not fit" in result.warnings[0]


def test_pairs_that_no_alignment_fits_count_as_no_other_kind_that_trains_nothing(tmp_path, monkeypatch):
    """Targets are of two tokens or more."""
    objective = Nmla(name="nmla")
    monkeypatch.setitem(OBJECTIVES, "nmla", objective)
    corpus = overfull(pairs=10, long=4)
    made = trainer(tmp_path, "nmla", corpus, corpus, SEARCHES["ctc"], **SHORT)
    made.weighting = Weighting(objective, None, SelfPaced(start=0.5, end=0.5, warmup=0.0))
    step = Step(torch.Generator().manual_seed(0), progress=0.5)
    metrics, _ = made._gradients(1, 0, batch=corpus.batch(np.arange(10)), step=step)
    assert metrics["short"] == 0 and metrics["sentences"] == 10


@pytest.mark.slow
def test_samples_that_wait_hide_no_text_of_which_most_trains_nothing(tmp_path):
    made = trainer(tmp_path, "ctc", overfull(pairs=60, long=42), sequences(20, 2), SEARCHES["ctc"], **SHORT)
    made.weighting = Weighting(OBJECTIVES["ctc"], None, SelfPaced(warmup=0.0))
    with pytest.raises(RetortError, match=r"\d+.\d % are pairs whose target does not fit"):
        made.run(tmp_path / "events")
