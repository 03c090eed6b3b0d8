"""Trainings that go wrong without an error: text that trains nothing, and a metric that does not rise."""

import json
import logging

import numpy as np
import pytest

from retort.config import OBJECTIVES, Autoregressive, Axe, Ctc, Dag, Nmla, Oaxe, Training
from retort.data.batches import EncodedCorpus, Ragged
from retort.errors import RetortError
from retort.objectives.base import Step
from retort.training.health import EARLY, Health
from retort.training.state import TrainingState
from tests.unit.fakes_training import interrupt, sequences
from tests.unit.training.test_loop import SEARCHES, short

SETTINGS = {"max_updates": 12, "warmup": 2}


def health(**settings) -> Health:
    return Health(Ctc(name="ctc"), Training(**{**SETTINGS, **settings}))


def rows(*values: float, metric: str = "BLEU") -> list[list]:
    return [[n, "valid", metric, value, 0.0] for n, value in enumerate(values)]


# ---- text that trains nothing ---------------------------------------------------------------------------------------


def overfull(pairs: int, long: int) -> EncodedCorpus:
    """``long`` of the pairs have a target of more tokens than two slots per source token can hold."""
    corpus = sequences(pairs, 1)
    sources, targets = corpus.source.lists(), corpus.target.lists()
    for row in range(long):
        sources[row], targets[row] = sources[row][:2], [10, 11] * 6
    return EncodedCorpus(np.arange(pairs), Ragged.from_lists(sources), Ragged.from_lists(targets))


def training(tmp_path, long: int, **settings):
    made = short(tmp_path, "ctc", scores=[1.0, 2.0, 3.0], validate_every=6, **settings)
    made.corpus = overfull(40, long)
    return made


def test_a_training_most_of_whose_targets_have_no_bigram_ends_if_these_are_its_loss():
    state, checks = {}, Health(Nmla(name="nmla"), Training(**SETTINGS))
    checks.count(state, {"short": 0.6, "sentences": 10, "tokens": 12})
    with pytest.raises(RetortError, match=r"60.0 % are pairs whose target is of fewer.* set objective.likelihood_we"):
        checks.check_validation(state, rows(1.0))


def test_a_training_most_of_whose_pairs_do_not_fit_ends_at_the_first_validation(tmp_path):
    made = training(tmp_path, long=36)
    with pytest.raises(RetortError) as ended:
        made.run(tmp_path / "events")
    text = str(ended.value)
    assert made.progress.update == 6, "the first validation"
    for part in ("decoder's slots", "train nothing", "At most 50 %", "max_untrained", "raise objective.upsampling"):
        assert part in text
    # cleaning does not touch a teacher's outputs
    assert "a teacher's outputs, train it longer, or shorten them by distillation.search.max_ratio" in text
    assert 80 < float(text.split(" %")[0]) <= 100


def test_the_threshold_is_a_key(tmp_path):
    result = training(tmp_path, long=36, max_untrained=1).run(tmp_path / "events")
    (warning,) = result.warnings
    assert "train nothing; raise objective.upsampling" in warning
    with pytest.raises(RetortError, match="At most 8 % are allowed by training.max_untrained; raise"):
        training(tmp_path / "b", long=6, max_untrained=0.08).run(tmp_path / "events")
    with pytest.raises(RetortError, match="At most 1 % are allowed"):
        training(tmp_path / "c", long=1, max_untrained=0.01).run(tmp_path / "events")


def test_a_few_per_cent_are_warned_about_and_fewer_are_not(tmp_path, caplog):
    result = training(tmp_path, long=6).run(tmp_path / "events")
    assert len(result.warnings) == 1 and "are pairs whose target does not fit" in result.warnings[0]
    assert [r.message for r in caplog.records if r.levelno == logging.WARNING] == result.warnings
    assert training(tmp_path / "b", long=0).run(tmp_path / "events").warnings == []


def test_shares_count_pairs_and_tokens_whatever_the_batches():
    state, checks = {}, Health(Axe(name="axe"), Training(**SETTINGS))
    for skipped, tokens in ((0.9, 10), (0.1, 90)):
        checks.count(state, {"skipped": skipped, "sentences": 5, "tokens": tokens})
    checks.check_validation(state, rows(1.0))
    assert checks.warnings(state) == [], "0.18 of the tokens, and half of the batches"


def test_a_resumed_training_counts_from_where_it_was(tmp_path):
    state = {}
    health().count(state, {"infeasible": 0.2, "sentences": 30, "tokens": 1})
    state = json.loads(json.dumps(state))
    health().count(state, {"infeasible": 0.6, "sentences": 10, "tokens": 9})
    checks = health()
    checks.check_validation(state, rows(1.0))
    assert checks.warnings(state)[0].startswith("30.0 % are pairs whose target")
    checks.count(state, {"infeasible": 1.0, "sentences": 10, "tokens": 9})
    checks.check_validation(state, rows(1.0, 2.0))
    assert len(checks.warnings(state)) == 1, "checked once"


@pytest.mark.slow
def test_a_resumed_training_warns_as_an_uninterrupted_one(tmp_path):
    settings = {"long": 12, "checkpoint_minutes": 1e-9, "batch_tokens": 128}
    expected = training(tmp_path / "whole", **settings).run(tmp_path / "events").warnings
    interrupt(training(tmp_path / "parts", **settings), tmp_path / "events", 3)
    resumed = training(tmp_path / "parts", **settings)
    assert resumed.run(tmp_path / "events").warnings == expected and len(expected) == 1


def test_a_validation_set_that_does_not_fit_is_warned_about_once(tmp_path):
    state, checks = {}, health()
    found = [[6, "valid", "loss", 0.0, 0.0], [6, "valid", "infeasible", 1.0, 0.0]]
    for _ in range(2):
        checks.count(state, {"infeasible": 0.0, "sentences": 30, "tokens": 1})
        checks.check_validation(state, found)
    (warning,) = checks.warnings(state)
    assert warning.startswith("100.0 % of the validation set are pairs whose target does not fit")
    found[1][3], state = 0.05, {}
    checks.count(state, {"infeasible": 0.0, "sentences": 30, "tokens": 1})
    checks.check_validation(state, found)
    assert checks.warnings(state) == []


def test_most_pairs_longer_than_the_model_are_an_error_before_the_first_update(tmp_path):
    made = short(tmp_path, scores=[1.0])
    made.corpus.dropped = 61
    with pytest.raises(RetortError, match=r"50.4 % are pairs longer than the model.*raise model.max_length"):
        made.run(tmp_path / "events")
    assert made.progress.update == 0
    made.corpus.dropped = 10
    assert "14.3 % are pairs longer than the model" in made.run(tmp_path / "events").warnings[0]


@pytest.mark.parametrize(("share", "ends"), [(0.45, False), (1.0, True)])
def test_tokens_left_out_on_purpose_are_an_error_only_where_nearly_all_are(share, ends):
    state, checks = {}, Health(Oaxe(name="oaxe"), Training(**SETTINGS))
    checks.check_validation(state, rows(1.0))  # the warm-up counts none
    checks.count(state, {"truncated": share, "sentences": 1, "tokens": 9})
    if ends:
        with pytest.raises(RetortError, match=r"At most 90 %.*objective.warmup_share"):
            checks.check_validation(state, rows(1.0, 2.0))
    else:
        checks.check_validation(state, rows(1.0, 2.0))
        assert checks.warnings(state) == []


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.only_value("name"))
def test_every_objective_declares_what_it_leaves_out(objective):
    from importlib import import_module
    from inspect import getsource

    parts = {declared.part for declared in objective.untrained}
    source = getsource(import_module(f"retort.objectives.{objective.only_value('name')}"))
    counted = {part for part in ("infeasible", "skipped", "truncated", "short") if f'"{part}"' in source}
    counted |= {"infeasible"} if "ctc_loss" in source or "graph_loss" in source else set()
    assert parts == counted


@pytest.mark.parametrize("objective", [Ctc(name="ctc"), Dag(name="dag"), Axe(name="axe"), Oaxe(name="oaxe")])
def test_declared_parts_are_parts_of_the_loss(objective):
    import torch

    from retort.objectives.base import load_objective
    from tests.unit.fakes_training import small_model

    batch = sequences(8, 1).batch(np.arange(8))
    step = Step(torch.Generator().manual_seed(0), progress=0.9)
    loss = load_objective(objective.name).compute(small_model(objective), batch, objective, step)
    assert all(0 <= float(loss.parts[declared.part]) <= 1 for declared in objective.untrained)


NO_SHARES = {
    "nll", "length", "divergence", "auxiliary", "parallel", "between", "taught", "f1", "precision", "brevity",
}  # fmt: skip
"""Parts of losses that are losses or scores."""


@pytest.mark.parametrize(
    "objective", [o for o in OBJECTIVES if not o.pretrains], ids=lambda objective: objective.only_value("name")
)
def test_every_share_that_an_objective_logs_is_declared_and_so_in_the_report(objective):
    import torch

    from retort.objectives.base import load_objective
    from retort.report.summary import SHARES
    from tests.unit.fakes_training import small_model

    options = objective(name=objective.only_value("name"))
    batch = sequences(8, 1).batch(np.arange(8))
    teacher = small_model(Autoregressive(name="autoregressive")).eval()
    step = Step(torch.Generator().manual_seed(0), progress=0.5, teacher=teacher)
    loss = load_objective(options.name).compute(small_model(options).train(), batch, options, step)
    shares = loss.parts.keys() - NO_SHARES
    assert set(options.counts) <= shares <= {*(declared.part for declared in options.untrained), *options.counts}
    assert shares <= SHARES.keys() and all(0 <= float(loss.parts[share]) <= 1 for share in shares)


# ---- a metric that does not rise ------------------------------------------------------------------------------------


def test_a_metric_of_zero_is_warned_about_at_the_end_and_after_a_few_validations(tmp_path, caplog):
    result = short(tmp_path, scores=[]).run(tmp_path / "events")
    (warning,) = result.warnings
    assert "BLEU, which chooses checkpoints, is 0 at all 6 validations" in warning
    assert "evaluation.tokenizer" in warning
    messages = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert messages == [warning.replace("all 6", f"all {EARLY}"), warning]


@pytest.mark.parametrize(
    ("values", "flat"),
    [([3.0, 3.0, 3.0], True), ([3.0, 2.0, 1.0], True), ([3.0, 1.0, 3.5], False), ([0.0, 0.1], False), ([0.0], False)],
)
def test_a_metric_that_is_never_better_than_at_first(values, flat):
    state, checks = {}, health()
    checks.check_rise(state, rows(*values))
    assert ["never better than at the first" in text for text in checks.warnings(state)] == [True] * flat


def test_a_loss_must_fall():
    for values, flat in (([3.0, 4.0], 1), ([3.0, 2.5], 0)):
        state, checks = {}, health(select_by="loss", decode_sentences=0)
        checks.check_rise(state, rows(*values, metric="loss"))
        assert len(checks.warnings(state)) == flat


def test_warnings_are_said_once_when_a_finished_training_runs_again(tmp_path):
    first = short(tmp_path, scores=[]).run(tmp_path / "events")
    again = short(tmp_path, scores=[])
    assert isinstance(again.state, TrainingState) and again.run(tmp_path / "events").warnings == first.warnings
    assert set(SEARCHES) >= {"ctc"}
