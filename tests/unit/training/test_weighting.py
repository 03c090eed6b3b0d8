"""Which samples count how much: mixtures, selective KD, samples that wait, and what is counted for the log."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from retort.config import SelectiveMixture, SelfPaced, System, UnionMixture, Vanilla, WeightedMixture
from retort.data.batches import EncodedCorpus, Ragged
from retort.data.parquet import write_table
from retort.data.tables import AGREEMENT, MIXED
from retort.data.vocabulary import PAD
from retort.errors import RetortError
from retort.objectives import vanilla
from retort.objectives.base import Step
from retort.training.weighting import (
    Scores,
    Weighting,
    choose_distilled,
    last_values,
    quantile_at,
    samples_of_kinds,
    weighting_of,
    weights_of_easiest,
    weights_within,
)
from tests.unit.fakes_models import batch, parallel, sentences

VANILLA = Vanilla(name="vanilla")
windowed = partial(SelfPaced, among="window")
SELECTIVE = SelectiveMixture(kind="selective", evaluator="e")


def mixed(count=8, seed=0, ids=None):
    """A batch of which every other target is the teacher's."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, 9, (2, count))
    pairs = batch(*(sentences(lengths[i], seed=2 * seed + i) for i in range(2)))
    ids = torch.arange(count) // 2 if ids is None else torch.tensor(ids)
    return replace(pairs, ids=ids, distilled_b=torch.arange(count) % 2 == 1)


def step(progress=0.3, seed=1):
    return Step(torch.Generator().manual_seed(seed), progress)


# ---- by hand --------------------------------------------------------------------------------------------------------


def test_hard_weights_keep_what_is_within_the_quantile():
    values, nan = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), float("nan")
    assert weights_within(values, [1.0, 2.0, 3.0, 4.0], 0.5, "hard").tolist() == [1, 1, 0, 0, 0]
    assert weights_within(values, [3.0, 4.0], 0.0, "hard").tolist() == [1, 1, 1, 0, 0]
    assert weights_within(torch.tensor([nan]), [1.0], 0.5, "hard").tolist() == [1.0], "the loss is for the loop to see"
    for kind in ("hard", "linear"):
        assert weights_within(values[4:], [], 0.5, kind).tolist() == [1.0]


def test_linear_weights_fall_to_0_at_the_quantile():
    values = torch.tensor([0.0, 1.0, 2.0, 5.0, 6.0])
    assert weights_within(values, [3.0, 5.0], 0.5, "linear").tolist() == [1.0, 0.75, 0.5, 0.0, 0.0]
    assert weights_within(torch.tensor([0.0, 0.1]), [0.0], 0.5, "linear").tolist() == [1.0, 0.0]


def test_the_window_holds_the_latest_values_that_are_numbers():
    values = torch.tensor([3.0, float("nan"), 4.0])
    assert last_values([1.0, 2.0], values, 10) == [1, 2, 3, 4]
    assert last_values([1.0, 2.0], values, 3) == [2, 3, 4]


@pytest.mark.parametrize(
    ("progress", "share"),
    [(0.0, 1.0), (0.0999, 1.0), (0.1, 0.5), (0.35, 0.75), (0.6, 1.0), (0.9, 1.0)],
)
def test_the_quantile_grows_from_the_warm_up_to_full(progress, share):
    assert quantile_at(SelfPaced(), progress) == pytest.approx(share)


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.8), (0.25, 0.6), (0.5, 0.4), (0.9, 0.4)])
def test_the_quantile_may_end_below_one(progress, share):
    assert quantile_at(SelfPaced(warmup=0, start=0.8, end=0.4, full=0.5), progress) == pytest.approx(share)


def test_selective_kd_s_rule():
    scores = torch.tensor([0.0, 0.39, 0.4, 0.69, 0.7, 0.99, 1.0])
    assert choose_distilled(scores, 0.4, 0.6, 0.0).tolist() == [True, True, *[False] * 5]
    assert choose_distilled(scores, 0.4, 0.6, 0.5).tolist() == [*[True] * 4, *[False] * 3]
    assert choose_distilled(scores, 0.4, 0.6, 1.0).tolist() == [*[True] * 6, False]


# ---- mixtures -------------------------------------------------------------------------------------------------------


def test_a_union_counts_all_the_same():
    pairs = mixed()
    for mixture in (None, UnionMixture(kind="union")):
        found = Weighting(VANILLA, mixture)(parallel(), pairs, step(), {})
        assert found.weights.tolist() == [1.0] * 8 and torch.equal(found.ids, pairs.ids)


def test_a_weighted_mixture_weighs_by_kind_and_drops_what_counts_nothing():
    pairs = mixed()
    found = Weighting(VANILLA, WeightedMixture(kind="weighted", weight=0.25))(parallel(), pairs, step(), {})
    assert found.weights.tolist() == [0.75, 0.25] * 4
    found = Weighting(VANILLA, WeightedMixture(kind="weighted", weight=1))(parallel(), pairs, step(), {})
    assert found.distilled_b.tolist() == [True] * 4 and torch.equal(found.target_bt, pairs.target_bt[1::2])


@pytest.mark.parametrize("weight", [0.5, 0.9])
def test_a_batch_of_one_kind_counts_as_little_as_its_weight(weight):
    """The mean over a batch's own weights forgets them where they are equal."""
    pairs, model = mixed(), parallel()
    weighting = Weighting(VANILLA, WeightedMixture(kind="weighted", weight=weight))
    for distilled, expected in ((False, 2 * (1 - weight)), (True, 2 * weight)):
        alone = replace(pairs, distilled_b=torch.full((8,), distilled))
        assert weighting(model, alone, step(), {}).scale.item() == pytest.approx(expected)
    tokens_b = (pairs.target_bt != PAD).sum(1)
    raw, distilled = tokens_b[::2].sum(), tokens_b[1::2].sum()
    expected = 2 * ((1 - weight) * raw + weight * distilled) / (raw + distilled)
    assert weighting(model, pairs, step(), {}).scale.item() == pytest.approx(expected.item())


def test_a_source_with_one_target_counts_1_in_a_weighted_mixture(tmp_path):
    texts = Ragged.from_lists(sentences([3, 4, 5, 6]))
    corpus = EncodedCorpus(np.array([0, 2, 2, 5]), texts, texts, np.array([False, False, True, True]))
    system = System(objective=VANILLA, data="mixed", mixture=WeightedMixture(kind="weighted", weight=0.25))
    weighting = weighting_of(system, corpus, tmp_path / "train.parquet", None, 1)
    found = weighting(parallel(), corpus.batch(np.array([3, 2, 1, 0])), step(), {})
    assert (found.ids.tolist(), found.weights.tolist()) == ([5, 2, 2, 0], [1.0, 0.25, 0.75, 1.0])


def test_a_selective_mixture_has_one_target_of_each_source_and_ever_more_of_the_teacher_s():
    scores = Scores(np.array([3, 0, 2, 1]), np.array([0.95, 0.2, 0.5, 0.75]))
    weighting, pairs = Weighting(VANILLA, SELECTIVE, evaluator=scores), mixed()
    for progress, teachers in ((0.0, {0}), (0.2, {0, 2}), (0.6, {0, 1, 2}), (1.0, {0, 1, 2, 3})):
        found = weighting(parallel(), pairs, step(progress), state := {})
        assert found.ids.tolist() == [0, 1, 2, 3] and found.weights.tolist() == [1] * 4
        assert {i for i, own in zip(found.ids.tolist(), found.distilled_b.tolist(), strict=True) if own} == teachers
        share = len(teachers) / 4
        assert weighting.metrics(state) == {"kept": 0.5, "kept_raw": 1 - share, "kept_distilled": share}


def test_a_source_without_a_translation_has_its_reference_in_a_selective_mixture(tmp_path):
    rows = {"id": [0, 1], "accuracy": [0.1, 0.1], "score": [0.1, 0.1]}
    write_table(tmp_path / "a.parquet", AGREEMENT, pa.table(rows, schema=AGREEMENT.schema))
    texts = Ragged.from_lists(sentences([3, 4, 5]))
    corpus = EncodedCorpus(np.array([0, 0, 1]), texts, texts, np.array([False, True, False]))
    system = System(objective=VANILLA, data="mixed", mixture=SELECTIVE)
    weighting = weighting_of(system, corpus, tmp_path / "train.parquet", tmp_path / "a.parquet", 1)
    found = weighting(parallel(), corpus.batch(np.arange(3)), step(1.0), {})
    assert (found.ids.tolist(), found.distilled_b.tolist()) == ([0, 1], [True, False])


def test_a_source_without_a_reference_has_its_translation_in_a_selective_mixture(tmp_path):
    """No evaluator has judged it."""
    rows = {"id": [1], "accuracy": [0.9], "score": [0.9]}
    write_table(tmp_path / "a.parquet", AGREEMENT, pa.table(rows, schema=AGREEMENT.schema))
    texts = Ragged.from_lists(sentences([3, 4, 5]))
    corpus = EncodedCorpus(np.array([0, 1, 1]), texts, texts, np.array([True, False, True]))
    system = System(objective=VANILLA, data="mixed", mixture=SELECTIVE)
    weighting = weighting_of(system, corpus, tmp_path / "train.parquet", tmp_path / "a.parquet", 1)
    found = weighting(parallel(), corpus.batch(np.arange(3)), step(0.0), {})
    assert (found.ids.tolist(), found.distilled_b.tolist()) == ([0, 1], [True, False])


def test_sources_without_a_reference_are_not_in_the_window_of_similarities(tmp_path):
    columns = {name: [[6]] * 12 for name in ("source", "target")}
    distilled = [number >= 4 for number in range(12)]
    rows = {"id": [*range(4), *range(8)], **columns, "distilled": distilled}
    rows["similarity"] = [80.0, 20.0, 90.0, 60.0, 80.0, 20.0, 90.0, 60.0, *[None] * 4]
    write_table(tmp_path / "train.parquet", MIXED, pa.table(rows, schema=MIXED.schema))
    corpus = EncodedCorpus.read(tmp_path / "train.parquet", 10, MIXED)
    paced = windowed(criterion="similarity", warmup=0, start=0.5, end=0.5)
    system = System(objective=VANILLA, data="mixed", self_paced=paced)
    weighting = weighting_of(system, corpus, tmp_path / "train.parquet", None, 1)
    assert weighting.window == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=1e-4)
    found = weighting(parallel(), corpus.batch(np.arange(12)), step(0.5), {})
    assert found.ids[~found.distilled_b].tolist() == [0, 2] and found.distilled_b.sum() == 8


def test_scores_are_found_by_id_and_must_be_there(tmp_path):
    rows = {"id": [7, 3, 5], "accuracy": [0.1, 0.2, 0.3], "score": [0.7, 0.3, 0.5]}
    write_table(tmp_path / "a.parquet", AGREEMENT, pa.table(rows, schema=AGREEMENT.schema))
    scores = Scores.read(tmp_path / "a.parquet", AGREEMENT, "score", np.array([3, 5, 3]))
    assert scores.of(torch.tensor([5, 3, 5])).tolist() == pytest.approx([0.5, 0.3, 0.5])
    assert scores.ids.tolist() == [3, 5]
    with pytest.raises(RetortError, match=r"a.parquet: lacks 2 ids of the training text, \[4, 9\]"):
        Scores.read(tmp_path / "a.parquet", AGREEMENT, "score", np.array([9, 3, 4]))


def test_what_a_weighting_needs_must_be_there():
    with pytest.raises(RetortError, match="evaluator's scores"):
        Weighting(VANILLA, SELECTIVE)(parallel(), mixed(), step(), {})
    unmixed = replace(mixed(), distilled_b=None)
    with pytest.raises(RetortError, match="must be a mixed table"):
        Weighting(VANILLA, WeightedMixture(kind="weighted"))(parallel(), unmixed, step(), {})
    with pytest.raises(RetortError, match="similarity of two targets"):
        Weighting(VANILLA, None, SelfPaced(criterion="similarity"))


# ---- samples that wait ----------------------------------------------------------------------------------------------


def test_the_hardest_of_each_kind_wait_by_their_likelihood_without_dropout():
    model, pairs, state = parallel(dropout=0.5).train(), mixed(), {}
    found = Weighting(VANILLA, None, windowed())(model, pairs, step(0.1), state)
    assert model.training
    lengths = (pairs.target_bt != 0).sum(1)
    values = -vanilla.log_likelihood(model.eval(), pairs, VANILLA) / lengths
    for kind, own in (("raw", ~pairs.distilled_b), ("distilled", pairs.distilled_b)):
        torch.testing.assert_close(torch.tensor(state["windows"][kind]), values[own], rtol=0, atol=1e-4)
        easiest = pairs.ids[own][values[own].argsort()[:2]]
        assert sorted(found.ids[found.distilled_b == (kind == "distilled")].tolist()) == sorted(easiest.tolist())


def test_the_pairs_on_which_outputs_agree_most_train_first(monkeypatch):
    agreement = torch.tensor([0.9, 0.2, 0.1, 0.8, 0.6, 0.7, 0.3, 0.4])
    weighting = Weighting(VANILLA, None, SelfPaced(criterion="agreement", start=0.5, end=0.5, warmup=0.0))
    monkeypatch.setattr(weighting, "module", SimpleNamespace(agreement=lambda *given: agreement))
    found = weighting(parallel(), mixed(), step(0.1), {})
    kept = list(zip(found.ids.tolist(), found.distilled_b.tolist(), strict=True))
    assert kept == [(0, False), (1, True), (2, False), (2, True)]


def test_kinds_have_quantiles_of_their_own(monkeypatch):
    """All references are harder than all translations, and as many of them count."""
    pairs, state = mixed(200), {}
    hardness = torch.rand(200, generator=torch.Generator().manual_seed(3)) + 5 * (~pairs.distilled_b)
    weighting = Weighting(VANILLA, None, windowed(start=0.3))
    monkeypatch.setattr(weighting, "_values", lambda *given: hardness)
    found = weighting(parallel(), pairs, step(0.1), state)
    assert weighting.metrics(state) == {"kept": 0.3, "kept_raw": 0.3, "kept_distilled": 0.3}
    assert found.distilled_b.sum() == 30
    single = replace(pairs, distilled_b=None)
    weighting(parallel(), single, step(0.1), state := {})
    assert list(state["windows"]) == ["raw"] and weighting.metrics(state) == {"kept": 0.3}


@pytest.mark.parametrize("among", ["batch", "window"])
@pytest.mark.parametrize("criterion", ["loss", "agreement", "similarity"])
def test_the_random_control_keeps_as_many_at_each_moment_and_any(criterion, among):
    similarity = Scores(np.arange(500), np.random.default_rng(1).random(500).round(1) * 100)
    model, chosen, shares = parallel(), {}, {}
    for random in (False, True):
        weighting = Weighting(VANILLA, None, SelfPaced(criterion=criterion, among=among, random=random), similarity)
        state = {}
        for number in range(3):
            pairs = mixed(1000, seed=number)
            found = weighting(model, pairs, step(0.2 + 0.1 * number, seed=number + 9 * random), state)
            chosen[random] = set(zip(found.ids.tolist(), found.distilled_b.tolist(), strict=True))
            shares.setdefault(random, []).append(weighting.metrics(state))
    for own, control, expected in zip(shares[False], shares[True], (0.6, 0.7, 0.8), strict=True):
        assert own["kept_raw"] == pytest.approx(expected, abs=0.05)
        assert control["kept_raw"] == pytest.approx(expected, abs=0.05)
        assert own["kept_distilled"] == pytest.approx(1.0 if criterion == "similarity" else expected, abs=0.05)
        assert control["kept_distilled"] == pytest.approx(own["kept_distilled"], abs=0.05)
    raw = [{number for number, distilled in chosen[random] if not distilled} for random in (False, True)]
    assert len(raw[0] & raw[1]) / 500 == pytest.approx(0.64, abs=0.06), "as by chance"


def test_of_equal_values_as_many_are_kept_as_the_quantile_says(monkeypatch):
    pairs, state = mixed(400), {}
    weighting = Weighting(VANILLA, None, windowed(criterion="agreement"))
    monkeypatch.setattr(weighting, "_values", lambda *given: torch.ones(400))
    weighting(parallel(), pairs, step(0.1), state)
    assert weighting.metrics(state)["kept"] == 0.5


def test_the_share_kept_stays_where_it_should_while_the_loss_falls(monkeypatch):
    """Each batch is easier than all before it, and would be kept as a whole."""
    generator = torch.Generator().manual_seed(2)
    weighting = Weighting(VANILLA, None, windowed(window=400, full=1.0))
    falling = iter(range(1000, 0, -1))
    monkeypatch.setattr(weighting, "_values", lambda *given: next(falling) / 5 + torch.rand(40, generator=generator))
    state, pairs = {}, mixed(40)
    for number in range(80):
        weighting(parallel(), pairs, step(0.1), state)
        if number == 39:
            weighting.metrics(state)
    found = weighting.metrics(state)
    assert found == pytest.approx({"kept": 0.5, "kept_raw": 0.5, "kept_distilled": 0.5}, abs=0.03)


def test_unlike_references_wait_and_no_translation_does():
    similarity = Scores(np.arange(4), np.array([80.0, 20.0, np.nan, 60.0]))
    weighting = Weighting(VANILLA, None, windowed(criterion="similarity"), similarity)
    found = weighting(parallel(), mixed(), step(0.1), {})
    assert found.ids[found.distilled_b].tolist() == [0, 1, 2, 3]
    assert found.ids[~found.distilled_b].tolist() == [0, 2], "a source without a translation has its reference"


def test_the_most_unlike_references_can_be_left_out_for_good():
    similarity = Scores(np.arange(4), np.array([80.0, 20.0, 90.0, 60.0]))
    paced = windowed(criterion="similarity", warmup=0, start=0.5, end=0.5)
    for progress in (0.0, 0.5, 0.999):
        found = Weighting(VANILLA, None, paced, similarity)(parallel(), mixed(), step(progress), {})
        assert found.ids[~found.distilled_b].tolist() == [0, 2]


def test_linear_weights_of_unlike_references_fall_with_their_similarity():
    similarity = Scores(np.arange(4), np.array([80.0, 20.0, 90.0, 60.0]))
    paced = windowed(criterion="similarity", weights="linear", warmup=0, start=0.5, end=0.5)
    found = Weighting(VANILLA, None, paced, similarity)(parallel(), mixed(), step(0.1), {})
    assert found.ids[~found.distilled_b].tolist() == [0, 2]
    assert found.weights[~found.distilled_b].tolist() == pytest.approx([1 / 3, 2 / 3], abs=1e-4)


def test_which_references_wait_by_similarity_changes_with_the_share_alone():
    """The control's are others, each time the same, and as many."""
    similarity = Scores(np.arange(100), np.arange(100.0))
    kept = {}
    for random in (False, True):
        paced = windowed(criterion="similarity", warmup=0, start=0.5, end=0.7, full=0.5, random=random)
        weighting, pairs = Weighting(VANILLA, None, paced, similarity, seed=3), mixed(200)
        for number, progress in enumerate((0.0, 0.0, 0.6, 0.9)):
            found = weighting(parallel(), pairs, step(progress, seed=number), {})
            kept[random, number] = set(found.ids[~found.distilled_b].tolist())
    assert kept[False, 0] == kept[False, 1] == set(range(50, 100))
    assert kept[False, 2] == kept[False, 3] == set(range(30, 100))
    assert kept[True, 0] == kept[True, 1] < kept[True, 2] == kept[True, 3]
    assert (len(kept[True, 0]), len(kept[True, 2])) == (50, 70)
    assert len(kept[True, 0] & kept[False, 0]) == pytest.approx(25, abs=10), "as by chance"


def test_nothing_is_asked_of_the_model_while_no_sample_waits(monkeypatch):
    weighting, state = Weighting(VANILLA, None, windowed()), {}
    monkeypatch.setattr(weighting, "_values", None)
    for progress in (0.0, 0.05, 0.6, 0.99):
        assert weighting(None, mixed(), step(progress), state).weights.tolist() == [1.0] * 8
    assert "windows" not in state
    assert weighting.metrics(state) == {"kept": 1.0, "kept_raw": 1.0, "kept_distilled": 1.0}
    assert weighting.metrics(state) == {}


@pytest.mark.parametrize("criterion", ["loss", "agreement"])
def test_pairs_that_no_alignment_fits_wait_and_do_not_count_for_the_quantile(criterion):
    from retort.config import Ctc

    pairs = batch([[7], [7, 8, 9], [6, 8]], [[6, 6, 6, 6, 6], [6], [7]])
    state = {}
    weighting = Weighting(Ctc(name="ctc"), None, windowed(start=0.99, criterion=criterion))
    found = weighting(parallel(2), pairs, step(0.1), state)
    assert 0 not in found.ids.tolist() and len(state["windows"]["raw"]) == 2


def test_targets_whose_length_has_no_class_wait_longest_and_are_no_others_debt():
    """They train by the nearest class, as all do without a weighting."""
    pairs = batch([[7] * 80] * 3 + [[7]], [[6]] * 3 + [[6]])
    weighting = Weighting(VANILLA, None, SelfPaced(start=0.5, end=0.5, warmup=0.0))
    found = weighting(parallel(max_length=100), pairs, step(0.1), {})
    assert len(found.ids) == 2 and 3 in found.ids.tolist() and found.gone == (2, 0)


def test_paced_weights_multiply_those_of_the_mixture(monkeypatch):
    mixture = WeightedMixture(kind="weighted", weight=0.25)
    weighting = Weighting(VANILLA, mixture, windowed(weights="linear", window=1, start=0.5))
    monkeypatch.setattr(weighting, "_values", lambda *given: torch.tensor([1, 1, 2, 3, 3, 5, 4, 4]).float())
    found = weighting(parallel(), mixed(), step(0.1), {})
    assert found.weights.tolist() == pytest.approx([0.75 * 0.75, 0.25 * 0.75, 0.75 * 0.5, 0.25 * 0.25, 0.75 * 0.25],
                                                   abs=1e-4)  # fmt: skip


def test_every_batch_keeps_the_same_share_of_each_kind_however_hard_it_is(monkeypatch):
    """Batches of hard samples wait as a whole where the quantile is of earlier batches."""
    kept = {}
    for among in ("batch", "window"):
        weighting, state, easy = Weighting(VANILLA, None, SelfPaced(among=among)), {}, mixed(40)
        for level in (0, 0, 9):
            values = level + torch.rand(40, generator=torch.Generator().manual_seed(4))
            monkeypatch.setattr(weighting, "_values", lambda *given, values=values: values)
            found = weighting(parallel(), easy, step(0.1), state)
            kept.setdefault(among, []).append(int((found.weights > 0).sum()))
        chosen = sorted(zip(found.ids.tolist(), found.distilled_b.tolist(), strict=True))
        if among == "batch":
            own = values[~easy.distilled_b].argsort()[:10]
            assert [number for number, distilled in chosen if not distilled] == sorted(own.tolist())
    assert kept["batch"] == [20, 20, 20]
    assert kept["window"][2] < 20


def test_linear_weights_of_a_batch_fall_towards_its_first_that_waits(monkeypatch):
    weighting = Weighting(VANILLA, None, SelfPaced(weights="linear", start=0.5, end=0.5, warmup=0.0))
    monkeypatch.setattr(weighting, "_values", lambda *given: torch.tensor([1, 1, 2, 3, 4, 5, 4.5, 6]).float())
    found = weighting(parallel(), mixed(), step(0.1), {})
    assert found.weights.tolist() == pytest.approx([0.75, 0.8, 0.5, 0.4], abs=1e-4)


def test_what_is_rounded_off_in_a_batch_is_carried_to_the_next():
    weighting, state, kept = Weighting(VANILLA, None, SelfPaced(random=True, start=0.3)), {}, []
    for seed in range(20):
        found = weighting(parallel(), replace(mixed(3, seed=seed), distilled_b=None), step(0.1, seed=seed), state)
        kept.append(int((found.weights > 0).sum()))
    assert set(kept) == {1}, "0.9 of 3 samples is rounded up, as none would be no update"
    state, kept = {}, []
    for seed in range(20):
        found = weighting(parallel(), replace(mixed(5, seed=seed), distilled_b=None), step(0.1, seed=seed), state)
        kept.append(int((found.weights > 0).sum()))
    assert sum(kept) == 30 and set(kept) == {1, 2}


def test_each_kind_carries_what_was_rounded_off_of_its_own():
    weighting, state, kept = Weighting(VANILLA, None, SelfPaced(random=True, start=0.3)), {}, []
    for seed in range(20):
        pairs = replace(mixed(8, seed=seed), distilled_b=torch.arange(8) < 5)
        found = weighting(parallel(), pairs, step(0.1, seed=seed), state)
        kept.append(int(found.distilled_b.sum()))
    assert sum(kept) == 30 and set(kept) == {1, 2}


def test_batches_of_one_sample_take_none_from_others():
    weighting, state = Weighting(VANILLA, None, SelfPaced(random=True)), {}
    for seed, size in enumerate([1] * 20 + [60]):
        batch = replace(mixed(size, seed=seed), distilled_b=None)
        found = weighting(parallel(), batch, step(0.1, seed=seed), state)
    assert int((found.weights > 0).sum()) == 29


def test_weights_of_the_easiest():
    values, nan = torch.tensor([4.0, 1.0, 5.0, 2.0, 3.0]), float("nan")
    assert weights_of_easiest(values, 2.4, "hard").tolist() == [0, 1, 0, 1, 0]
    assert weights_of_easiest(values, 0.0, "hard").tolist() == [0, 1, 0, 0, 0], "at least one"
    assert weights_of_easiest(values, 3, "linear").tolist() == pytest.approx([0, 0.75, 0, 0.5, 0.25])
    assert weights_of_easiest(values[:1], 1, "linear").tolist() == [1.0]
    for kind in ("hard", "linear"):
        assert weights_of_easiest(torch.tensor([4.0, nan, 1.0]), 1, kind)[1] == 1, "the loss is for the loop to see"


@pytest.mark.parametrize(("end", "share"), [(1.0, 0.875), (0.75, 0.7125), (0.5, 0.55)])
def test_the_mean_share_of_a_schedule(end, share):
    paced = SelfPaced(end=end)
    mean = np.mean([quantile_at(paced, progress) for progress in np.arange(0, 1, 1e-4)])
    assert mean == pytest.approx(share, abs=1e-3)


# ---- a sample of each kind ------------------------------------------------------------------------------------------


def test_the_same_number_of_each_kind_is_sampled_all_over():
    texts = Ragged.from_lists(sentences([3] * 40))
    corpus = EncodedCorpus(np.arange(40) // 2, texts, texts, np.arange(40) % 2 == 1)
    found = samples_of_kinds(corpus, 5)
    assert {kind: part.ids.tolist() for kind, part in found.items()} == {
        "raw": [0, 4, 9, 14, 19],
        "distilled": [0, 4, 9, 14, 19],
    }
    assert found["raw"].distilled.tolist() == [False] * 5 and found["distilled"].distilled.tolist() == [True] * 5
    assert len(samples_of_kinds(corpus, 100)["raw"]) == 20
    some_missing = corpus.select(np.flatnonzero((np.arange(40) != 3) & (np.arange(40) != 20)))
    found = samples_of_kinds(some_missing, 5)
    assert found["raw"].ids.tolist() == found["distilled"].ids.tolist() == [0, 5, 9, 14, 19], "sources that have both"
    assert samples_of_kinds(EncodedCorpus(np.arange(40), texts, texts), 5) == {}
    assert samples_of_kinds(EncodedCorpus(np.arange(40), texts, texts, np.arange(40) % 2 == 1), 5) == {}
