"""Learning small tasks, stopping, averaging, and resuming bit for bit."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from retort.config import Argmax, Blocks, CtcCollapse, DagPath, Greedy, MaskPredict
from retort.data.batches import EncodedCorpus, Ragged, epoch_batches, length_batches
from retort.data.parquet import read_provenance, read_table
from retort.data.tables import TRAINING_LOG
from retort.data.vocabulary import EOS
from retort.errors import NotFinite, RetortError
from retort.losses.base import Loss
from retort.search.base import run_search
from retort.training import loop
from retort.training.device import precision
from retort.training.log import write_log
from retort.training.validation import Validator
from tests.unit.fakes_objectives import OBJECTIVE_CASES
from tests.unit.fakes_training import OBJECTIVES, Numerals, interrupt, sequences, small_model, trainer

SEARCHES = {
    "autoregressive": Greedy(kind="greedy"),
    "vanilla": Argmax(kind="argmax"),
    "cmlm": MaskPredict(kind="mask_predict", length_beam=1),
    "janus": MaskPredict(kind="mask_predict", length_beam=1),
    "bart_janus": Greedy(kind="greedy"),
    "bang": Blocks(kind="blocks", collapse=False),
    "bang_pretraining": Greedy(kind="greedy"),
    "glat": Argmax(kind="argmax"),
    "axe": Argmax(kind="argmax"),
    "ctc": CtcCollapse(kind="ctc_collapse"),
    "glat_ctc": CtcCollapse(kind="ctc_collapse"),
    "dag": DagPath(kind="dag_path"),
}
TIMES = ("seconds", "tokens_per_second", "processor_seconds")


def correct(model, corpus, search) -> float:
    """Share of the sequences that come out without an error."""
    model.eval()
    right = 0
    for rows in length_batches(corpus.source.lengths, 4096):
        found = run_search(model, corpus.source.padded(rows), search)
        target = corpus.target
        for row, best in zip(rows, found, strict=True):
            right += best[0].tokens == target.tokens[target.offsets[row] : target.offsets[row + 1]].tolist()
    return right / len(corpus)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reverse", "updates"),
    [
        ("autoregressive", True, 500),
        ("vanilla", False, 200),
        ("cmlm", False, 250),
        ("glat", False, 150),
        ("axe", False, 300),
        ("ctc", True, 250),
        ("glat_ctc", True, 250),
        ("dag", True, 250),
    ],
)
def test_learns_to_copy_or_to_reverse(tmp_path, name, reverse, updates):
    # CTC needs a blank between repeated tokens, and takes long to learn that; the searches of a graph drop repeats.
    repeats = "ctc" not in name and name != "dag"
    train, valid = (sequences(count, seed, reverse, repeats) for count, seed in ((4000, 1), (200, 2)))
    settings = {"max_updates": updates, "warmup": 60, "learning_rate": 0.01, "schedule": "cosine"}
    learner = trainer(
        tmp_path, name, train, valid, SEARCHES[name], batch_tokens=512, validate_every=updates // 2, **settings
    )
    assert correct(learner.model, valid, SEARCHES[name]) < 0.05
    result = learner.run(tmp_path / "events")
    assert result.scores["BLEU"] > 98 and correct(learner.model, valid, SEARCHES[name]) > 0.98
    losses = [row[3] for row in result.rows if row[1:3] == ["train", "loss"]]
    assert losses[-1] < losses[0] / 2


def short(tmp_path, name="autoregressive", scores=None, **settings):
    """A trainer of few updates; ``scores``, if given, stand in for validation."""
    train, valid = sequences(60, 1), sequences(20, 2)
    defaults = {"max_updates": 12, "warmup": 2, "validate_every": 2, "batch_tokens": 128, "decode_sentences": 5}
    made = trainer(tmp_path, name, train, valid, SEARCHES[name], **{**defaults, **settings})
    if scores is not None:
        scores = itertools.chain(scores, itertools.repeat(0.0))
        made.seen = []

        def validator(model):
            made.seen.append(made.optimiser.master.clone())
            return {"loss": 1.0, "BLEU": next(scores)}

        made.validator = validator
    return made


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path, value):
    learner = short(tmp_path, accumulate=2)
    compute, before, calls = learner.compute, [], itertools.count(1)

    def poisoned(model, batch, objective, step):
        loss = compute(model, batch, objective, step)
        if next(calls) < 6:
            before[:] = [learner.optimiser.master.clone()]
            return loss
        return Loss(loss.total * value)

    learner.compute = poisoned
    with pytest.raises(RetortError, match=r"update 3: the loss is .*ids \[.*learning_rate"):
        learner.run(tmp_path / "events")
    assert torch.equal(learner.optimiser.master, before[0]) and learner.optimiser.master.isfinite().all()
    assert torch.equal(learner.optimiser.weights, before[0])


def test_a_gradient_that_is_not_finite_stops_before_the_update(tmp_path):
    learner = short(tmp_path, checkpoint_minutes=1e-9)
    compute = learner.compute

    def poisoned(model, batch, objective, step):
        loss = compute(model, batch, objective, step)
        if learner.progress.update == 4:
            loss.total.register_hook(lambda gradient: gradient * math.nan)
        return loss

    learner.compute = poisoned
    with pytest.raises(RetortError, match="update 5: the gradient norm is nan"):
        learner.run(tmp_path / "events")
    tensors, counters = learner.state.load()
    assert counters["update"] == 4 and torch.equal(tensors["master"], learner.optimiser.master)


def test_stops_at_max_updates_and_validates_there(tmp_path):
    result = short(tmp_path, scores=[1.0], max_updates=7, validate_every=3).run(tmp_path / "events")
    assert (result.stopped_by, result.updates) == ("max_updates", 7)
    assert [row[0] for row in result.rows if row[1:3] == ["valid", "BLEU"]] == [3, 6, 7]


def test_stops_when_validations_bring_nothing_better(tmp_path):
    result = short(tmp_path, scores=[1, 3, 2, 3, 1, 9], patience=3).run(tmp_path / "events")
    assert (result.stopped_by, result.updates) == ("patience", 10)


def test_patience_by_loss_wants_it_low(tmp_path):
    learner = short(tmp_path, select_by="loss", patience=2)
    losses = iter([5.0, 4.0, 3.0, 3.5, 4.0])
    learner.validator = lambda model: {"loss": next(losses, 9.0)}
    result = learner.run(tmp_path / "events")
    assert (result.stopped_by, result.updates, result.averaged_updates) == ("patience", 10, [6])


@pytest.mark.parametrize("metric", ["ROUGE-L", "chrF++"])
def test_another_metric_chooses_where_it_selects(tmp_path, metric):
    learner = short(tmp_path, select_by=metric, validate_every=4)
    result = learner.run(tmp_path / "events")
    reached = {row[0]: row[3] for row in result.rows if row[1:3] == ["valid", metric]}
    assert list(reached) == [4, 8, 12] and set(result.scores) == {"loss", "nll", "BLEU", "chrF", metric}
    best = max(reached, key=lambda update: (reached[update], update))
    assert result.averaged_updates == [best] and result.scores[metric] == pytest.approx(reached[best])


@pytest.mark.parametrize("log_every", [1, 50])
def test_stops_after_max_minutes_and_validates_what_it_has(tmp_path, monkeypatch, log_every):
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)), process_time=lambda: 0.0)
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(loop, "LOG_EVERY", log_every)
    learner = short(tmp_path, scores=[1, 2, 3], max_minutes=4 / 60)
    result = learner.run(tmp_path / "events")
    # A second an update, another for the validation after the second.
    assert (result.stopped_by, result.updates, result.seconds) == ("max_minutes", 3, 4.0)
    assert [row[0] for row in result.rows if row[1:3] == ["valid", "BLEU"]] == [2, 3]
    assert result.averaged_updates == [3]


def test_minutes_of_earlier_runs_count(tmp_path):
    first = short(tmp_path, scores=[])
    first.progress.seconds = 700.0
    first.save()
    result = short(tmp_path, scores=[], max_minutes=10).run(tmp_path / "events")
    assert (result.stopped_by, result.updates) == ("max_minutes", 0)


def test_the_final_weights_are_the_mean_of_the_best(tmp_path):
    learner = short(tmp_path, scores=[5, 1, 7, 2, 6, 7], average_best=3, final_weights="mean")
    result = learner.run(tmp_path / "events")
    assert result.averaged_updates == [12, 6, 10]
    expected = (learner.seen[5] + learner.seen[2] + learner.seen[4]) / 3
    torch.testing.assert_close(learner.optimiser.master, expected, rtol=1e-6, atol=1e-7)
    assert torch.equal(learner.optimiser.weights, learner.optimiser.master)
    assert set(learner.kept) == {12, 6, 10}


@pytest.mark.parametrize(
    ("asked", "last_scores", "updates", "places"),
    [
        ("best", [7], [6], [2]),
        ("last", [4], [12], [5]),
        # the average, and the best ones again where that is worse
        ("validated", [3, 7], [6], [2]),
        ("validated", [7], [6, 10], [2, 4]),
        ("validated", [8], [6, 10], [2, 4]),
    ],
)
def test_other_final_weights_are_kept_where_they_are_asked_for(tmp_path, asked, last_scores, updates, places):
    scores = [5, 1, 7, 2, 6, 4, *last_scores]
    learner = short(tmp_path, scores=scores, average_best=2, final_weights=asked)
    result = learner.run(tmp_path / "events")
    assert result.averaged_updates == updates and result.scores["BLEU"] == max(last_scores)
    expected = sum(learner.seen[place] for place in places) / len(places)
    torch.testing.assert_close(learner.optimiser.master, expected, rtol=1e-6, atol=1e-7)
    assert torch.equal(learner.optimiser.weights, learner.optimiser.master)


def test_the_average_must_have_the_lower_loss_where_the_loss_selects(tmp_path):
    learner = short(tmp_path, select_by="loss", average_best=2)
    losses = iter([5.0, 4.0, 3.0, 3.5, 4.0, 4.0, 3.2, 3.0])
    learner.validator = lambda model: {"loss": next(losses)}
    result = learner.run(tmp_path / "events")
    assert result.averaged_updates == [6] and result.scores["loss"] == 3.0


def timeless(rows):
    return [row[:4] for row in rows if row[2] not in TIMES]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "saved_at"), [*((name, 9) for name in OBJECTIVES), ("autoregressive", 3), ("autoregressive", 16)]
)
def test_a_resumed_training_is_bit_equal(tmp_path, monkeypatch, name, saved_at):
    monkeypatch.setattr(loop, "LOG_EVERY", 5)
    settings = {"accumulate": 2, "dropout": 0.3, "average_best": 2, "max_updates": 18, "validate_every": 4}
    settings["checkpoint_minutes"] = 1e-9
    whole = short(tmp_path / "whole", name, **settings)
    expected = whole.run(tmp_path / "whole/events")
    assert expected.epochs > 0, "the interruption must be able to fall into a later epoch"

    first = short(tmp_path / "parts", name, **settings)
    save = first.state.save
    first.state.save = lambda update, *rest: save(update, *rest) if update == saved_at else None
    interrupt(first, tmp_path / "parts/events", saved_at + 1)
    torch.manual_seed(99)
    second = short(tmp_path / "parts", name, **settings)
    updates = []
    compute = second.compute
    second.compute = lambda *arguments: updates.append(second.progress.update) or compute(*arguments)
    result = second.run(tmp_path / "parts/events")
    assert updates[0] == saved_at
    assert torch.equal(second.optimiser.master, whole.optimiser.master)
    assert timeless(result.rows) == timeless(expected.rows)
    for fact in ("updates", "epochs", "tokens", "stopped_by", "averaged_updates", "scores"):
        assert getattr(result, fact) == getattr(expected, fact)


@pytest.mark.parametrize("name", ["loss", "BLEU"])
def test_a_validation_that_is_no_number_is_an_error(tmp_path, name):
    made = short(tmp_path, scores=[1.0, 2.0], validate_every=6)
    validator = made.validator
    made.validator = lambda model: {**validator(model), name: float("nan")}
    with pytest.raises(NotFinite, match=f"update 6: {name} of the validation is nan; lower training.learning_rate"):
        made.run(tmp_path / "events")


def test_epochs_are_whole_passes(tmp_path):
    batches = len(epoch_batches((made := short(tmp_path)).corpus, made.settings.batch_tokens, seed=1, epoch=0))
    for updates, epochs in ((2 * batches - 1, 1), (2 * batches, 2)):
        made = short(tmp_path / str(updates), scores=[], max_updates=updates, warmup=1)
        assert made.run(tmp_path / "events").epochs == epochs


def test_seeds_differ(tmp_path):
    one, other = short(tmp_path / "1", scores=[], dropout=0.3), short(tmp_path / "2", scores=[], dropout=0.3)
    other.seed = 2
    for learner in (one, other):
        learner.run(tmp_path / "events")
    assert not torch.equal(one.optimiser.master, other.optimiser.master)


def test_the_log_is_a_table_and_events(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 6)
    result = short(tmp_path).run(tmp_path / "events")
    write_log(tmp_path / "training.parquet", result.rows, {"seed": 1})
    rows = read_table(tmp_path / "training.parquet", TRAINING_LOG).to_pylist()
    assert read_provenance(tmp_path / "training.parquet") == {"seed": 1}
    training = [row for row in rows if row["split"] == "train"]
    assert {row["update"] for row in training} == {6, 12}
    expected = {"loss", "nll", "gradient_norm", "tokens_per_second", "learning_rate"}
    assert {row["metric"] for row in training} == expected
    assert {row["split"] for row in rows} == {"train", "valid", "average"}
    assert list((tmp_path / "events").glob("events.*"))


def test_the_log_has_the_mean_of_a_part_over_the_batches_that_have_it(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOG_EVERY", 4)
    trainer = short(tmp_path)
    compute = trainer.compute

    def with_a_part(model, batch, options, step):
        loss = compute(model, batch, options, step)
        return replace(loss, parts={**loss.parts, "late": torch.tensor(3.0)}) if step.progress >= 0.5 else loss

    trainer.compute = with_a_part
    rows = trainer.run(tmp_path / "events").rows
    # of 12 updates the last six
    assert [(update, value) for update, _, metric, value, _ in rows if metric == "late"] == [(8, 3.0), (12, 3.0)]


def test_the_speed_in_the_log_is_that_of_updates_alone(tmp_path, monkeypatch):
    """Neither validations nor what is saved counts."""
    clock = {"now": 0.0}
    monkeypatch.setattr(loop, "LOG_EVERY", 6)
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock["now"])
    trainer = short(tmp_path)
    compute, validator = trainer.compute, trainer.validator

    def slowly(*args):
        clock["now"] += 0.5
        return compute(*args)

    def validate(model):
        clock["now"] += 1000.0
        return validator(model)

    trainer.compute, trainer.validator = slowly, validate
    result = trainer.run(tmp_path / "events")
    speeds = [value for _, split, metric, value, _ in result.rows if (split, metric) == ("train", "tokens_per_second")]
    assert result.tokens == pytest.approx(sum(speeds) * 3.0)


def test_the_validation_loss_is_a_mean_over_tokens_whatever_the_batches():
    objective, valid = OBJECTIVES["autoregressive"], sequences(40, 3)
    model = small_model(objective, dropout=0.3)
    losses = []
    for tokens in (16, 4096):
        validator = Validator(valid, Numerals(), objective, SEARCHES["autoregressive"], 0, tokens)
        scores = validator(model)
        assert set(scores) == {"loss", "nll"}
        losses.append(scores["loss"])
        assert model.training
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("name", ["ctc", "dag"])
def test_pairs_that_do_not_fit_change_the_validation_loss_in_no_batching(name):
    sources, targets = [[6, 7, 8, 9, 10, 11, 12, 13, 14], [6, 7]], [[6, 7, 8, 9], list(range(6, 15))]
    both = EncodedCorpus(np.arange(2), Ragged.from_lists(sources), Ragged.from_lists(targets))
    fits = EncodedCorpus(np.arange(1), Ragged.from_lists(sources[:1]), Ragged.from_lists(targets[:1]))
    objective = OBJECTIVES[name].model_copy(update={"upsampling": 2})
    model = small_model(objective)
    alone, together, apart = (
        Validator(corpus, Numerals(), objective, SEARCHES[name], 0, tokens)(model)
        for corpus, tokens in ((fits, 4096), (both, 4096), (both, 8))
    )
    assert alone["infeasible"] == 0 and together["infeasible"] == apart["infeasible"] == 0.5
    assert apart["loss"] == pytest.approx(alone["loss"], rel=1e-4)
    assert together["loss"] == pytest.approx(alone["loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nmla", {"upsampling": 2}),
        ("nmla", {"upsampling": 2, "likelihood_weight": 0.5}),
        ("fuzzy_dag", {"upsampling": 2}),
        ("fuzzy_dag", {"upsampling": 2, "likelihood_weight": 0.5}),
        ("ctc", {"upsampling": 2}),
        ("glat_ctc", {"upsampling": 2}),
        ("dag", {"upsampling": 2}),
        ("bang_pretraining", {"mask_ratio": 1.0, "span_block": 3}),
        ("vanilla", {"deep_supervision": True}),
        *((name, {}) for name in ("imitation", "bang", "vanilla", "cmlm", "glat", "axe", "oaxe", "janus")),
    ],
    ids=str,
)
def test_means_over_sentences_masks_or_slots_are_the_same_in_any_batching(monkeypatch, name, options):
    """One target is of a single token, and one does not fit into the slots."""
    for module in ("cmlm", "janus"):
        mask = f"retort.objectives.{module}.random_mask"
        monkeypatch.setattr(mask, lambda target_bt, generator: (target_bt & 3) == EOS)
    monkeypatch.setattr("retort.objectives.bang_pretraining.corrupt", lambda tokens_bt, *rest, **others: tokens_bt)
    sources = [[6, 7, 8, 9, 10, 11, 12, 13, 14], [6, 7], [9], [8, 9, 10, 12]]
    targets = [[6, 10, 7, 8], list(range(6, 15)), [10], [9, 14, 10, 6, 8, 7, 11]]
    if name == "bang_pretraining":
        sources = targets
    corpus = EncodedCorpus(np.arange(4), Ragged.from_lists(sources), Ragged.from_lists(targets))
    objective = OBJECTIVE_CASES[name].model_copy(update=options)
    model = small_model(objective, decoder_layers=2)
    together, apart = (
        Validator(corpus, Numerals(), objective, None, 0, tokens).loss(model.eval(), corpus) for tokens in (4096, 8)
    )
    assert apart == pytest.approx(together, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("vanilla", {"nll": 1, "length": 0.1}),
        (
            "janus",
            {"nll": 0.7, "auxiliary": 0.5, "parallel": 0.5, "divergence": 1, "length": 0.1},
        ),
    ],
)
def test_the_validation_loss_is_the_sum_of_its_parts(name, weights):
    objective = OBJECTIVE_CASES[name].model_copy(update={"autoregressive_weight": 0.7})
    corpus = sequences(40, 3)
    model = small_model(objective).eval()
    found = Validator(corpus, Numerals(), objective, None, 0, 128).loss(model, corpus)
    assert found["loss"] == pytest.approx(sum(weight * found[part] for part, weight in weights.items()), rel=1e-5)


def test_validation_batches_hold_few_pairs_of_long_sources():
    objective, lengths = OBJECTIVES["autoregressive"], [40, 3] * 20
    sources = Ragged.from_lists([[6] * n for n in lengths])
    valid = EncodedCorpus(np.arange(40), sources, Ragged.from_lists([[7, 8]] * 40))
    seen = []

    class Watched(type(small_model(objective))):
        def encode(self, source_bs):
            seen.append(tuple(source_bs.shape))
            return super().encode(source_bs)

    model = small_model(objective)
    model.__class__ = Watched
    Validator(valid, Numerals(), objective, SEARCHES["autoregressive"], 0, 128)(model)
    assert sum(rows for rows, _ in seen) == 40 and max(rows * width for rows, width in seen) <= 128


def test_precision_names():
    cpu = torch.device("cpu")
    assert precision("float32", cpu) is torch.float32 and precision("bfloat16", cpu) is torch.bfloat16
    assert precision("auto", cpu) in (torch.float32, torch.bfloat16)


def test_the_loss_is_told_how_much_of_the_training_is_done(tmp_path):
    learner = short(tmp_path, max_updates=4, warmup=1, accumulate=2)
    compute, seen, seeds = learner.compute, [], set()

    def watched(model, batch, objective, step):
        seen.append(step.progress)
        seeds.add(step.generator.initial_seed())
        return compute(model, batch, objective, step)

    learner.compute = watched
    learner.run(tmp_path / "events")
    assert seen == [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    assert len(seeds) == 8, "every batch draws its own masks"


def test_the_gradient_of_an_update_is_the_mean_of_its_batches(tmp_path):
    learner = short(tmp_path, max_updates=1, warmup=0, accumulate=2)
    compute, step, gradients, norms = learner.compute, learner.optimiser.step, [], []

    def watched(model, *arguments):
        own = torch.autograd.grad(compute(model, *arguments).total, list(model.parameters()))
        gradients.append(torch.cat([gradient.flatten() for gradient in own]))
        return compute(model, *arguments)

    learner.compute = watched
    learner.optimiser.step = lambda update: norms.append(step(update)) or norms[-1]
    learner.run(tmp_path / "events")
    assert norms == [pytest.approx(float(sum(gradients).norm() / 2), rel=1e-4)]
