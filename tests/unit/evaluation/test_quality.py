from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import sacrebleu
from rouge_score import rouge_scorer

from retort.config import GeneratedCorpus, Metric
from retort.corpus.language.choices import alternatives
from retort.corpus.language.grammar import grammar_of
from retort.errors import RetortError
from retort.evaluation import rouge
from retort.evaluation.diagnostics import diagnostics, right_translations
from retort.evaluation.metrics import METRICS, SACREBLEU, corpus_score, score, segment_statistics
from retort.evaluation.quality import Pairs, quality, read_pairs, read_tests
from tests.unit.fakes_evaluation import corpus, translations

CAT = "The cat sat on the mat."

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
]


@pytest.mark.parametrize(("hypothesis", "reference", "metric", "expected"), SINGLE)
def test_a_metric_has_the_value_computed_by_hand(hypothesis, reference, metric, expected):
    statistics, _ = segment_statistics(metric, [hypothesis], [[reference]])
    assert corpus_score(metric, statistics) == pytest.approx(expected, abs=1e-9)


def test_scores_and_signatures_are_sacrebleus(tmp_path: Path):
    references = [CAT, "A dog ran.", "No one came to the old house, did they?"]
    hypotheses = ["The cat sat at a mat.", "A dog runs.", "Nobody came to the house, did they?"]
    tests = read_tests([corpus(tmp_path / "test.test.parquet", references)])
    (pairs,) = read_pairs(translations(tmp_path / "beam.parquet", hypotheses), tests)
    scores = {score.metric: score for score in quality(pairs, SACREBLEU)}
    assert list(scores) == ["BLEU", "BLEU-lc", "chrF", "TER"]
    assert scores["BLEU"].value == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score, abs=1e-9)
    assert scores["chrF"].value == pytest.approx(sacrebleu.corpus_chrf(hypotheses, [references]).score, abs=1e-9)
    cased = sacrebleu.TER(case_sensitive=True).corpus_score(hypotheses, [references]).score
    assert scores["TER"].value == pytest.approx(cased, abs=1e-9)
    version = sacrebleu.__version__
    assert scores["BLEU"].signature == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}"
    assert "case:lc" in scores["BLEU-lc"].signature
    assert scores["chrF"].signature == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}"
    assert "case:mixed" in scores["TER"].signature


HYPOTHESES = ["The cats sat at a mat.", "A dog runs.", "", "Nobody came to the house, did they?"]
SEVERAL = [[CAT, "A cat was on the mat."], ["Some dogs ran!"], ["One.", "Two."], ["No one came.", "Who came?", "they"]]


@pytest.mark.parametrize("metric", SACREBLEU)
def test_several_references_are_scored_as_sacrebleu_does(metric):
    streams = [[own[i] if i < len(own) else None for own in SEVERAL] for i in range(3)]
    scorer = SACREBLEU[metric]()
    expected = scorer.corpus_score(HYPOTHESES, streams).score
    found = score(metric, HYPOTHESES, SEVERAL)
    assert found.value == pytest.approx(expected, abs=1e-9) and found.signature == str(scorer.get_signature())
    assert "nrefs:var" in found.signature and "nrefs:2" in score(metric, HYPOTHESES[:1], SEVERAL[:1]).signature
    # the first reference alone is another score
    assert found.value != pytest.approx(score(metric, HYPOTHESES, [own[:1] for own in SEVERAL]).value)


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


def test_rouge_by_hand():
    # "cats" and "mats" are stemmed: 5 of 5 words are in the 6 of the reference, in order; 3 of 4 and 5 bigrams
    values = {metric: score(metric, ["the cats sat on mats"], [[CAT]]).value for metric in rouge.KINDS}
    assert values == pytest.approx({"ROUGE-1": 1000 / 11, "ROUGE-2": 600 / 9, "ROUGE-L": 1000 / 11})
    assert score("ROUGE-L", ["mat the on sat cat the"], [[CAT]]).value == pytest.approx(50)  # the sat the


def test_distinct_n_by_hand():
    # tokens: a b a b . | b . | (none) - 7 tokens, 3 distinct; bigrams: ab ba ab b. | b. - 5, 3 distinct
    outputs = ["a b a b.", "b.", ""]
    assert score("distinct-1", outputs, [["x"]] * 3).value == pytest.approx(300 / 7)
    assert score("distinct-2", outputs, [["x"]] * 3).value == pytest.approx(300 / 5)
    assert score("distinct-2", ["a", ""], [["x"]] * 2).value == 0
    assert set(METRICS) == set(get_args(Metric))


def test_rows_meet_by_id_in_any_order_and_only_the_best_hypothesis_counts(tmp_path: Path):
    tests = read_tests([corpus(tmp_path / "test.test.parquet", ["a b c d e", "f g h i j"], ids=[7, 3])])
    table = translations(tmp_path / "t.parquet", ["f g h i j", "x", "a b c d e"], ids=[3, 3, 7], ranks=[0, 1, 0])
    (pairs,) = read_pairs(table, tests)
    assert pairs.ids.tolist() == [3, 7]
    assert pairs.hypotheses == ["f g h i j", "a b c d e"] and pairs.references == [["f g h i j"], ["a b c d e"]]
    assert pairs.sources == ["source 3", "source 7"]
    assert quality(pairs, ["BLEU"])[0].value == pytest.approx(100)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 1], r"2 hypotheses for 3 references; 1 ids without a hypothesis \(2\), 0 ids without"),
        ([0, 1, 9], r"1 ids without a hypothesis \(2\), 1 ids without a reference \(9\)"),
        ([0, 1, 2, 5, 6], r"0 ids without a hypothesis, 2 ids without a reference \(5, 6\)"),
        ([0, 1, 1], r"1 ids stand more than once \(1\)"),
    ],
)
def test_other_ids_are_refused_with_file_counts_and_ids(tmp_path: Path, ids, message):
    tests = read_tests([corpus(tmp_path / "test.test.parquet", ["a", "b", "c"])])
    path = translations(tmp_path / "beam.parquet", ["a"] * len(ids), ids=ids)
    with pytest.raises(RetortError, match=message) as error:
        read_pairs(path, tests)
    assert "beam.parquet, test set 'test'" in str(error.value)


def test_missing_and_extra_test_sets_are_refused(tmp_path: Path):
    tests = read_tests([corpus(tmp_path / "test.flickr.parquet", ["a"])])
    path = translations(tmp_path / "beam.parquet", ["a"], test_set="coco")
    with pytest.raises(RetortError, match=r"beam.parquet: holds test sets coco, expected flickr"):
        read_pairs(path, tests)


def test_wrong_names_and_empty_test_sets_are_refused(tmp_path: Path):
    with pytest.raises(RetortError, match="expected a file named test"):
        read_tests([corpus(tmp_path / "valid.parquet", ["a"])])
    with pytest.raises(RetortError, match="an empty test set"):
        read_tests([corpus(tmp_path / "test.none.parquet", [])])
    with pytest.raises(RetortError, match="no test set given"):
        read_tests([])


def test_lists_of_unequal_length_never_reach_sacrebleu():
    with pytest.raises(RetortError, match="1 hypotheses and 2 references"):
        segment_statistics("BLEU", ["a"], [["a"], ["b"]])
    with pytest.raises(RetortError, match="0 hypotheses and 0 references"):
        segment_statistics("BLEU", [], [])


def test_diagnostics_count_what_they_say(tmp_path: Path):
    # 4 + 3 + 0 + 2 tokens; adjacent repeats: "a a a" has 2, "b b" across two outputs has none.
    hypotheses = ["a a a b", "b c ...", "", "c c"]
    tests = read_tests([corpus(tmp_path / "test.test.parquet", ["a b c d", "e", "f", "g h"])])
    (pairs,) = read_pairs(translations(tmp_path / "t.parquet", hypotheses), tests)
    scores = {score.metric: score for score in diagnostics(pairs)}
    assert scores["repeated_token_rate"].value == pytest.approx(3 / 9)
    assert scores["length_ratio"].value == pytest.approx(9 / 8)
    assert scores["empty_outputs"].value == 1
    assert scores["truncated_outputs"].value == 1
    assert scores["decoder_passes"].value == pytest.approx(1.5)
    assert "tokens:9" in scores["repeated_token_rate"].signature
    assert "reference words:8" in scores["length_ratio"].signature


def test_the_length_of_several_references_is_their_mean(tmp_path: Path):
    tests = read_tests([corpus(tmp_path / "test.test.parquet", [["a b c", "a"], "e f g"])])
    (pairs,) = read_pairs(translations(tmp_path / "t.parquet", ["a b c", "c"]), tests)
    (found,) = [found for found in diagnostics(pairs) if found.metric == "length_ratio"]
    assert found.value == pytest.approx(4 / 5) and "reference words:5" in found.signature


def test_diagnostics_of_nothing_but_empty_outputs(tmp_path: Path):
    tests = read_tests([corpus(tmp_path / "test.test.parquet", ["a b", "c"])])
    (pairs,) = read_pairs(translations(tmp_path / "t.parquet", ["", ""]), tests)
    scores = {score.metric: score.value for score in diagnostics(pairs)}
    assert scores["repeated_token_rate"] == 0
    assert scores["length_ratio"] == 0
    assert scores["empty_outputs"] == 2


def test_right_translations_need_no_reference():
    language = GeneratedCorpus(kind="generated")
    grammar = grammar_of(language)
    source = "fal kofit bitar gor lor teliru"
    right = [" ".join(words) for _, words in alternatives(grammar.references(source))]
    wrong = ["", right[0] + " " + right[0].split()[-1], "no such words"]
    hypotheses = [*right, *wrong]
    count = len(hypotheses)
    pairs = Pairs("test", np.arange(count), [source] * count, [["another"]] * count, hypotheses, None)
    score = right_translations(pairs, language)
    assert score.value == pytest.approx(100 * 8 / 11) and f"outputs:{count}" in score.signature
