import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.significance import PairedTest

from retort.config import METRICS
from retort.data.runs import Run, run_of_path
from retort.errors import RetortError
from retort.evaluation.comparison import compare
from retort.evaluation.learned import MeanOfSegments
from retort.evaluation.metrics import Measured, load_metric, measure, score
from retort.evaluation.metrics.base import CorpusMetric, SegmentMetric
from retort.evaluation.runs import run_of_training
from retort.evaluation.significance import (
    differences,
    resampled_scores,
    resampling_counts,
    spread,
)
from tests.unit.fakes_evaluation import corpus, translations

VECTORISED = [metric.name for metric in METRICS if isinstance(load_metric(metric.name), SegmentMetric)]


@pytest.fixture(scope="module")
def texts() -> dict[str, list[str]]:
    """References and three systems that garble 20, 22 and 50 percent of the words."""
    generator = random.Random(7)
    words = [f"word{i}" for i in range(40)]
    references = [" ".join(generator.choices(words, k=generator.randint(3, 15))) for _ in range(200)]

    def garbled(share: float) -> list[str]:
        return [
            " ".join(w if generator.random() > share else generator.choice(words) for w in text.split())
            for text in references
        ]

    return {"references": references, "good": garbled(0.2), "similar": garbled(0.22), "bad": garbled(0.5)}


def measured(texts: dict[str, list[str]], metric: str, system: str) -> Measured:
    return measure(metric, texts[system], [[text] for text in texts["references"]])


@pytest.mark.parametrize("metric", VECTORISED)
def test_the_vectorised_formula_equals_the_corpus_score(texts, metric):
    scorer = load_metric(metric)
    for system in ("references", "good", "bad"):
        segments = measured(texts, metric, system).resampling
        for part in (segments, *segments[:50, None]):
            sums = part.sum(0)
            assert scorer.scores_of_sums(sums[None])[0] == pytest.approx(scorer.score_of_sums(sums), abs=1e-6)


@pytest.mark.parametrize("metric", VECTORISED)
@pytest.mark.parametrize(
    ("hypothesis", "reference"), [("", "a b"), ("a", "a"), ("a b", ""), ("x y z w v", "a b c d e"), ("", "")]
)
def test_the_vectorised_formula_equals_the_corpus_score_on_the_edges(metric, hypothesis, reference):
    one = measure(metric, [hypothesis], [[reference]])
    assert load_metric(metric).scores_of_sums(one.resampling)[0] == pytest.approx(one.value, abs=1e-6)


@pytest.mark.parametrize("metric", VECTORISED)
def test_the_vectorised_formula_equals_scoring_the_texts_of_each_resample(texts, metric):
    references = [[text] for text in texts["references"][:20]]
    counts = np.concatenate(list(resampling_counts(20, 5)))
    scorer, systems = load_metric(metric), [texts["good"][:20], texts["bad"][:20]]
    fast = scorer.resampled_scores([scorer.measure(system, references) for system in systems], counts)
    whole = [CorpusMetric.measure(scorer, system, references) for system in systems]
    assert fast == pytest.approx(CorpusMetric.resampled_scores(scorer, whole, counts), abs=1e-6)


@pytest.mark.parametrize("metric", VECTORISED)
def test_equal_systems_do_not_differ(texts, metric):
    good = measured(texts, metric, "good")
    (found,) = differences(metric, [good], good, samples=100)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


@pytest.mark.parametrize("metric", VECTORISED)
def test_a_test_set_of_one_sentence_shows_no_difference(metric):
    good, bad = (measure(metric, [text], [["a cat sits here"]]) for text in ("a cat sits here", "the dog ran far off"))
    (found,) = differences(metric, [bad], good, samples=100)
    assert found.difference and (found.low, found.high) == pytest.approx((found.difference, found.difference))
    assert found.p_value == 1


@pytest.mark.parametrize("metric", ["BLEU", "chrF", "chrF++", "ROUGE-L"])
def test_clearly_different_systems_differ_and_similar_ones_do_not(texts, metric):
    good, similar, bad = (measured(texts, metric, system) for system in ("good", "similar", "bad"))
    clear, unclear = differences(metric, [bad, similar], good, samples=500)
    assert clear.p_value == pytest.approx(1 / 501)
    assert clear.low < clear.difference < clear.high < 0
    assert unclear.p_value > 0.05
    assert unclear.low < 0 < unclear.high


def test_the_bootstrap_of_rouge_is_that_of_the_mean_of_sentence_scores(texts):
    good, bad = (measured(texts, "ROUGE-L", system) for system in ("good", "bad"))
    (found,) = differences("ROUGE-L", [bad], good, samples=300)
    references = [[text] for text in texts["references"]]
    assert found.value == pytest.approx(score("ROUGE-L", texts["bad"], references).value)
    assert found.baseline_value == pytest.approx(score("ROUGE-L", texts["good"], references).value)
    drawn = np.random.default_rng(12345).integers(200, size=(300, 200))
    resampled = (bad.resampling[:, 0] - good.resampling[:, 0])[drawn].mean(1)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(resampled, [2.5, 97.5])))
    assert found.p_value == pytest.approx(1 / 301)


@pytest.mark.parametrize("scale", [1, 100, 1e-6])
def test_resamples_exactly_as_far_from_no_difference_are_counted(scale):
    """Scores of 0.2 and 0.9 whose sums of floats depend on their order; the exact p-value is of whole numbers."""
    base = np.where(np.arange(100) % 3, 0.2, 0.9) * scale
    better = np.flatnonzero(base < scale / 2)[:4]
    good = np.where(np.isin(np.arange(100), better), 0.9 * scale, base)
    baseline, system = (
        Measured(float(scores.mean()), "", segments=100, resampling=scores, scorer=MeanOfSegments())
        for scores in (base, good)
    )
    (found,) = differences("learned", [system], baseline, samples=1000)
    drawn = np.concatenate(list(resampling_counts(100, 1000)))[:, better].sum(axis=1)
    assert found.p_value == (np.count_nonzero(abs(drawn - 4) >= 4) + 1) / 1001


def test_the_comparison_is_symmetric(texts):
    good, bad = (measured(texts, "BLEU", system) for system in ("good", "bad"))
    (forth,), (back,) = differences("BLEU", [good], bad, 200), differences("BLEU", [bad], good, 200)
    assert forth.difference == pytest.approx(-back.difference)
    assert forth.low == pytest.approx(-back.high)
    assert forth.p_value == back.p_value


def test_resampled_scores_agree_with_sacrebleus_paired_bootstrap(texts):
    metrics = {metric: load_metric(metric).scorer() for metric in ("BLEU", "chrF")}
    named = [("bad", texts["bad"]), ("good", texts["good"])]
    _, theirs = PairedTest(named, metrics, [texts["references"]], test_type="bs", n_samples=300)()
    for metric, column in (("BLEU", "BLEU"), ("chrF", "chrF2")):
        both = [measured(texts, metric, system) for system in ("bad", "good")]
        resampled = resampled_scores(metric, both, samples=300)
        for index in range(2):
            ordered = np.sort(resampled[index])
            cut = len(ordered) // 40
            low, high = ordered[cut], ordered[-cut - 1]
            assert both[index].value == pytest.approx(theirs[column][index].score, abs=1e-6)
            assert resampled[index].mean() == pytest.approx(theirs[column][index].mean, abs=0.01)
            assert (high - low) / 2 == pytest.approx(theirs[column][index].ci, abs=0.01)
        (ours,) = differences(metric, both[1:], both[0], samples=300)
        # sacreBLEU counts one tail: at most as many resamples as the two-sided test.
        assert theirs[column][1].p_value <= ours.p_value + 1e-9


def test_a_resample_draws_as_many_segments_as_there_are_and_repeats_with_its_seed():
    counts = np.concatenate(list(resampling_counts(30, 50)))
    assert counts.shape == (50, 30)
    assert (counts.sum(axis=1) == 30).all()
    assert (counts == np.concatenate(list(resampling_counts(30, 50)))).all()
    assert (counts != np.concatenate(list(resampling_counts(30, 50, seed=2)))).any()


def test_blocks_do_not_change_the_resamples(monkeypatch):
    whole = np.concatenate(list(resampling_counts(31, 10)))
    monkeypatch.setattr("retort.evaluation.significance.CELLS_AT_ONCE", 70)
    blocks = list(resampling_counts(31, 10))
    assert len(blocks) == 5
    assert (np.concatenate(blocks) == whole).all()


def test_different_numbers_of_segments_are_refused(texts):
    good = measured(texts, "BLEU", "good")
    with pytest.raises(RetortError, match="199, 200 segments cannot be compared"):
        differences("BLEU", [replace(good, segments=199)], good, samples=10)


def test_spread_over_seeds():
    assert spread([2.0, 4.0]).mean == 3
    assert spread([2.0, 4.0]).sd == pytest.approx(2**0.5)
    assert spread([5.0]).n == 1
    assert np.isnan(spread([5.0]).sd)
    assert np.isnan(spread([]).mean)


def test_runs_are_read_from_paths(tmp_path: Path):
    run = run_of_path(tmp_path / "ctc-2.1" / "seed12" / "beam5.parquet")
    assert run == Run("ctc-2.1", 12, "beam5")
    assert str(run) == "ctc-2.1/seed12/beam5"
    assert run_of_training("systems/teacher/seed-1") == Run("teacher", -1)
    assert run_of_path("beam5.parquet") is run_of_path("distilled/translations.parquet") is None
    with pytest.raises(RetortError, match="cannot tell which system"):
        run_of_training("systems/teacher")


def test_the_comparison_table(tmp_path: Path, texts):
    test = corpus(tmp_path / "test.test.parquet", texts["references"])
    paths = {
        name: translations(tmp_path / name / "seed1" / "beam.parquet", texts[name])
        for name in ("good", "similar", "bad")
    }
    pairs = [(paths["similar"], paths["bad"]), (paths["bad"], paths["good"])]
    metrics = ["BLEU", "chrF", "distinct-1"]
    table = compare([test], paths["good"], list(paths.values()), pairs, samples=100, metrics=metrics).to_pylist()
    assert [(row["system"], row["baseline"], row["metric"]) for row in table] == [
        ("similar", "good/seed1/beam", "BLEU"),
        ("bad", "good/seed1/beam", "BLEU"),
        ("similar", "good/seed1/beam", "chrF"),
        ("bad", "good/seed1/beam", "chrF"),
        ("similar", "bad/seed1/beam", "BLEU"),
        ("similar", "bad/seed1/beam", "chrF"),
    ]
    bad = table[1]
    assert bad["difference"] == pytest.approx(bad["value"] - bad["baseline_value"])
    assert bad["difference_low"] <= bad["difference"] <= bad["difference_high"] < 0
    assert bad["p_value"] < 0.05
    assert bad["samples"] == 100
    assert "tok:13a" in bad["signature"] and "bs:100|seed:12345" in bad["signature"]


def test_a_run_given_as_two_files_is_refused(tmp_path: Path, texts):
    test = corpus(tmp_path / "test.test.parquet", texts["references"])
    paths = [translations(tmp_path / part / "a" / "seed1" / "b.parquet", texts["good"]) for part in "xy"]
    with pytest.raises(RetortError, match="a/seed1/b is already given"):
        compare([test], paths[0], paths)


def test_a_difference_is_of_the_resamples_of_its_seed():
    references = [[f"a b c {i}"] for i in range(8)]
    system, baseline = (
        measure("BLEU", [f"a b {'c' if i % k else 'd'} {i}" for i in range(8)], references) for k in (3, 2)
    )
    first, again, other = (differences("BLEU", [system], baseline, samples=40, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
