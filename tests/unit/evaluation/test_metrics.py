"""Every metric by hand, against its package, and in all that is made of metrics."""

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import sacrebleu
from rouge_score import rouge_scorer

from retort.config import METRICS, MetricDeclaration
from retort.config import metrics as declarations
from retort.errors import RetortError
from retort.evaluation.comparison import compare
from retort.evaluation.lengths import scores_by_length
from retort.evaluation.metrics import load_metric, measure, score
from retort.evaluation.metrics.base import CorpusMetric
from retort.evaluation.metrics.sacre import SacreBleuMetric
from retort.evaluation.quality import Pairs, quality, read_pairs, read_tests
from tests.unit.fakes_evaluation import corpus, translations

CAT = "The cat sat on the mat."
NAMES = [metric.name for metric in METRICS]
SACREBLEU = [name for name in NAMES if isinstance(load_metric(name), SacreBleuMetric)]

# hypothesis, reference, metric, expected. By hand, with the 13a tokeniser's seven tokens "The cat sat on the mat .":
# one wrong word leaves 6/7, 4/6, 2/5 and 1/4 matching n-grams: BLEU 100 (6/7 * 4/6 * 2/5 * 1/4) ** (1/4) = 48.892.
SINGLE = [
    (CAT, CAT, "BLEU", 100.0),
    (CAT, CAT, "chrF", 100.0),
    (CAT, CAT, "TER", 0.0),
    ("The cat lay on the mat.", CAT, "BLEU", 100 * (6 / 7 * 4 / 6 * 2 / 5 * 1 / 4) ** 0.25),
    ("The cat lay on the mat.", CAT, "TER", 100 / 6),
    ("the cat sat on the mat.", CAT, "BLEU", 100 * (6 / 7 * 5 / 6 * 4 / 5 * 3 / 4) ** 0.25),
    ("the cat sat on the mat.", CAT, "BLEU-lc", 100.0),
    ("the cat sat on the mat.", CAT, "TER", 100 / 6),
    ("", CAT, "BLEU", 0.0),
    ("", CAT, "chrF", 0.0),
    ("", CAT, "TER", 100.0),
    # Too short: a brevity penalty of exp(1 - 7 / 4) on four matching words.
    ("The cat sat on", CAT, "BLEU", 100 * np.exp(1 - 7 / 4)),
    # Exponential smoothing: 1 match of 4, then orders without a match count 1/2, 1/4 and 1/8.
    ("a x y z", "a b c d", "BLEU", 100 * (1 / 4 * 1 / 6 * 1 / 8 * 1 / 8) ** 0.25),
    # Character 1-grams 1/2 on both sides, 2-grams 0/1: precision and recall 1/4 each.
    ("ab", "ac", "chrF", 25.0),
    # The same and one wrong word of one on both sides; there are no word bigrams.
    ("ab", "ac", "chrF++", 100 / 6),
    # "cats" and "mats" are stemmed: 5 of 5 words are in the 6 of the reference, in order; 3 of 4 and 5 bigrams.
    ("the cats sat on mats", CAT, "ROUGE-1", 1000 / 11),
    ("the cats sat on mats", CAT, "ROUGE-2", 600 / 9),
    ("the cats sat on mats", CAT, "ROUGE-L", 1000 / 11),
    # the sat the
    ("mat the on sat cat the", CAT, "ROUGE-L", 50.0),
    # Tokens a b a b . are 3 distinct ones; bigrams ab ba ab b. too.
    ("a b a b.", "x", "distinct-1", 300 / 5),
    ("a b a b.", "x", "distinct-2", 300 / 4),
]


def test_every_metric_has_a_value_computed_by_hand():
    missing = set(NAMES) - {metric for _, _, metric, _ in SINGLE}
    assert not missing, f"metrics without a value: {missing}; add (hypothesis, reference, metric, expected) to SINGLE"


@pytest.mark.parametrize(("hypothesis", "reference", "metric", "expected"), SINGLE)
def test_a_metric_has_the_value_computed_by_hand(hypothesis, reference, metric, expected):
    assert score(metric, [hypothesis], [[reference]]).value == pytest.approx(expected, abs=1e-9)


def test_scores_and_signatures_are_sacrebleus(tmp_path: Path):
    references = [CAT, "A dog ran.", "No one came to the old house, did they?"]
    hypotheses = ["The cat sat at a mat.", "A dog runs.", "Nobody came to the house, did they?"]
    tests = read_tests([corpus(tmp_path / "test.test.parquet", references)])
    (pairs,) = read_pairs(translations(tmp_path / "beam.parquet", hypotheses), tests)
    scores = {score.metric: score for score in quality(pairs, SACREBLEU)}
    assert list(scores) == ["BLEU", "BLEU-lc", "chrF", "chrF++", "TER"]
    assert scores["BLEU"].value == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score, abs=1e-9)
    assert scores["chrF"].value == pytest.approx(sacrebleu.corpus_chrf(hypotheses, [references]).score, abs=1e-9)
    words = sacrebleu.corpus_chrf(hypotheses, [references], word_order=2).score
    assert scores["chrF++"].value == pytest.approx(words, abs=1e-9)
    cased = sacrebleu.TER(case_sensitive=True).corpus_score(hypotheses, [references]).score
    assert scores["TER"].value == pytest.approx(cased, abs=1e-9)
    version = sacrebleu.__version__
    assert scores["BLEU"].signature == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}"
    assert "case:lc" in scores["BLEU-lc"].signature
    assert scores["chrF"].signature == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}"
    assert "nc:6|nw:2" in scores["chrF++"].signature and "case:mixed" in scores["TER"].signature


HYPOTHESES = ["The cats sat at a mat.", "A dog runs.", "", "Nobody came to the house, did they?"]
SEVERAL = [[CAT, "A cat was on the mat."], ["Some dogs ran!"], ["One.", "Two."], ["No one came.", "Who came?", "they"]]


@pytest.mark.parametrize("metric", SACREBLEU)
def test_several_references_are_scored_as_sacrebleu_does(metric):
    streams = [[own[i] if i < len(own) else None for own in SEVERAL] for i in range(3)]
    scorer = load_metric(metric).scorer()
    expected = scorer.corpus_score(HYPOTHESES, streams).score
    found = score(metric, HYPOTHESES, SEVERAL)
    assert found.value == pytest.approx(expected, abs=1e-9) and found.signature == str(scorer.get_signature())
    assert "nrefs:var" in found.signature and "nrefs:2" in score(metric, HYPOTHESES[:1], SEVERAL[:1]).signature
    # the first reference alone is another score
    assert found.value != pytest.approx(score(metric, HYPOTHESES, [own[:1] for own in SEVERAL]).value)


def test_a_bucket_of_lengths_has_the_words_of_the_whole_test_set(tmp_path):
    """Most of the letters are English, so runs of a-z are words, and the Russian sentence has none."""
    texts = ["one two three four five six", "это кот", "a cat sits here on the mat"]
    test = corpus(tmp_path / "test.test.parquet", texts)
    (pairs,) = read_pairs(translations(tmp_path / "t" / "seed1" / "beam.parquet", texts), read_tests([test]))
    rows = list(scores_by_length(pairs, [3], ["ROUGE-L", "BLEU"]))
    assert [(row["metric"], row["sentences"], round(row["value"])) for row in rows[:2]] == [
        ("ROUGE-L", 1, 0),
        ("ROUGE-L", 2, 100),
    ]
    assert rows[0]["signature"] == rows[1]["signature"]


@pytest.mark.parametrize(("metric", "kind"), [("ROUGE-1", "rouge1"), ("ROUGE-2", "rouge2"), ("ROUGE-L", "rougeL")])
def test_rouge_is_the_packages_mean_of_the_best_reference(metric, kind):
    scorer = rouge_scorer.RougeScorer([kind], use_stemmer=True)
    best = [
        max(scorer.score(reference, text)[kind].fmeasure for reference in own)
        for text, own in zip(HYPOTHESES, SEVERAL, strict=True)
    ]
    found = score(metric, HYPOTHESES, SEVERAL)
    assert found.value == pytest.approx(100 * np.mean(best))
    assert "nrefs:var|refs:best" in found.signature and "stem:porter" in found.signature
    assert "nrefs:2" in score(metric, HYPOTHESES[:1], SEVERAL[:1]).signature


def test_distinct_n_by_hand():
    # tokens: a b a b . | b . | (none) - 7 tokens, 3 distinct; bigrams: ab ba ab b. | b. - 5, 3 distinct
    outputs = ["a b a b.", "b.", ""]
    assert score("distinct-1", outputs, [["x"]] * 3).value == pytest.approx(300 / 7)
    assert score("distinct-2", outputs, [["x"]] * 3).value == pytest.approx(300 / 5)
    assert score("distinct-2", ["a", ""], [["x"]] * 2).value == 0


def test_lists_of_unequal_length_never_reach_sacrebleu():
    with pytest.raises(RetortError, match="1 hypotheses and 2 references"):
        score("BLEU", ["a"], [["a"], ["b"]])
    with pytest.raises(RetortError, match="0 hypotheses and 0 references"):
        measure("distinct-1", [], [])


# ---- in all that is made of metrics ---------------------------------------------------------------------------------


class Vowels(CorpusMetric):
    """A metric without a formula: the share of the references' vowels that the outputs have."""

    def score(self, hypotheses: Sequence[str], references: Sequence[list[str]]) -> tuple[float, str]:
        wanted = sum(text.count("a") for texts in references for text in texts)
        return 100 * sum(text.count("a") for text in hypotheses) / max(1, wanted), "vowels"


@pytest.fixture
def vowels(monkeypatch) -> str:
    """Declares the metric, as its module and its declaration would."""
    module = ModuleType("retort.evaluation.metrics.vowels")
    module.Vowels = Vowels  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(declarations, "METRICS", (*METRICS, MetricDeclaration("vowels", "vowels.Vowels")))
    load_metric.cache_clear()
    return "vowels"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    """A test set and two systems, of which the bad one has other words, and more of them."""
    generator = random.Random(7)
    references = [" ".join(generator.choices(["banana", "cat", "dog", "egg", "fig"], k=6)) for _ in range(30)]
    test = corpus(tmp_path / "test.test.parquet", references)
    worse = [text.replace("a", "o", i % 3) + " fig" * (i % 2) for i, text in enumerate(references)]
    systems = {"good": references, "bad": worse}
    return test, {
        name: translations(tmp_path / name / "seed1" / "beam.parquet", texts) for name, texts in systems.items()
    }


def check_in_tables(metric: str, files: tuple[Path, dict[str, Path]], resampled: bool) -> list[dict]:
    """Scores, scores by length and comparison have the metric, and the same value."""
    test, systems = files
    (pairs,) = read_pairs(systems["bad"], read_tests([test]))
    (whole,) = quality(pairs, [metric])
    (bucket,) = scores_by_length(pairs, [10], [metric])
    assert (bucket["metric"], bucket["value"]) == (metric, pytest.approx(whole.value, rel=1e-12))
    rows = compare([test], systems["good"], [systems["bad"]], samples=20, metrics=[metric]).to_pylist()
    assert [(row["metric"], row["value"]) for row in rows] == ([(metric, whole.value)] if resampled else [])
    return rows


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_declared_metric_is_in_every_table(metric, files):
    rows = check_in_tables(metric.name, files, metric.resampled)
    for row in rows:
        assert (row["difference"] < 0) == metric.higher_is_better and row["difference_low"] < row["difference_high"]


def test_a_metric_without_a_formula_is_resampled_from_the_texts(vowels, files):
    (row,) = check_in_tables(vowels, files, resampled=True)
    assert row["difference_low"] < row["difference"] < row["difference_high"] < 0 and row["p_value"] == 1 / 21


def test_the_length_of_several_references_is_their_mean():
    texts = [["a b", "a b c d"], ["a b"]]
    pairs = Pairs("test", np.arange(2), sources=["x", "x"], references=texts, hypotheses=["a", "a"], rows=None)
    assert [row["sentences"] for row in scores_by_length(pairs, [2], ["BLEU"])] == [1, 1]
