import math
from pathlib import Path

import numpy as np
import pytest

from retort.config import GeneratedCorpus
from retort.corpus.language.choices import alternatives
from retort.corpus.language.grammar import grammar_of
from retort.errors import RetortError
from retort.evaluation.diagnostics import diagnostics, right_translations
from retort.evaluation.quality import Pairs, quality, read_pairs, read_tests
from retort.evaluation.runs import counterparts
from tests.unit.fakes_evaluation import corpus, translations


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
        ([0, 1], r"its ids are not the 3 of its references: 1 missing \[2\]; translate"),
        ([0, 1, 9], r": 1 missing \[2\], 1 unknown \[9\];"),
        ([0, 1, 2, 5, 6], r"references: 2 unknown \[5, 6\];"),
        ([0, 1, 1], r"ids occur more than once: \[1\]"),
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


def test_sources_without_a_reference_are_refused_with_file_count_and_ids(tmp_path: Path):
    path = corpus(tmp_path / "test.test.parquet", ["a", [], ["b", "c"], []])
    with pytest.raises(RetortError, match=r"test.test.parquet: 2 of 4 sources have no reference.* \[1, 3\];"):
        read_tests([path])


def test_diagnostics_count_what_they_say(tmp_path: Path):
    # 4 + 3 + 0 + 2 tokens; adjacent repeats: "a a a" has 2, "b b" across two outputs has none.
    hypotheses = ["a a a b", "b c ...", "", "c c"]
    tests = read_tests([corpus(tmp_path / "test.test.parquet", ["a b c d", "e", "f", "g h"])])
    (pairs,) = read_pairs(translations(tmp_path / "t.parquet", hypotheses), tests)
    scores = {score.metric: score for score in diagnostics(pairs, "BLEU")}
    assert scores["repeated_token_rate"].value == pytest.approx(3 / 9)
    assert scores["length_ratio"].value == pytest.approx(9 / 8)
    # BLEU's tokenizer makes one token of "..." too: 9 tokens, none too few
    assert scores["brevity_penalty"].value == 1
    assert scores["empty_outputs"].value == 1
    assert scores["truncated_outputs"].value == 1
    assert scores["decoder_passes"].value == pytest.approx(1.5)
    assert "tokens:9" in scores["repeated_token_rate"].signature
    assert "reference words:8" in scores["length_ratio"].signature
    assert "at the length limit, or of cut sources|outputs:" in scores["truncated_outputs"].signature


def test_an_output_that_fits_any_source_scores_as_well_against_another_ones_references(tmp_path: Path):
    references = ["why did the king leave", "who is the queen now", "why did the king leave", "what ate the old wolf"]
    tests = read_tests([corpus(tmp_path / "test.test.parquet", references)])
    template = translations(tmp_path / "t.parquet", [references[0]] * 4)
    (pairs,) = read_pairs(template, tests)
    scores = {score.metric: score for score in diagnostics(pairs, "BLEU")}
    assert scores["distinct_outputs"].value == 1 and "outputs:4" in scores["distinct_outputs"].signature
    # the same references, in another order
    assert scores["other_source"].value == pytest.approx(quality(pairs, ["BLEU"])[0].value)
    assert scores["other_source"].signature.startswith("BLEU against the references of half a test set further on|")
    assert "pairs further on:2|nrefs:1|" in scores["other_source"].signature


def test_an_output_of_its_source_scores_nothing_against_another_ones_references(tmp_path: Path):
    references = ["why did the king leave", "who is a queen now"]
    tests = read_tests([corpus(tmp_path / "test.test.parquet", references)])
    (pairs,) = read_pairs(translations(tmp_path / "t.parquet", references), tests)
    scores = {score.metric: score.value for score in diagnostics(pairs, "ROUGE-L")}
    assert scores["distinct_outputs"] == 2 and scores["other_source"] == 0


def test_a_single_pair_has_no_other_source(tmp_path: Path):
    tests = read_tests([corpus(tmp_path / "test.test.parquet", ["a b"])])
    (pairs,) = read_pairs(translations(tmp_path / "t.parquet", ["a b"]), tests)
    assert "other_source" not in {score.metric for score in diagnostics(pairs, "BLEU")}


def test_the_length_of_several_references_is_their_mean(tmp_path: Path):
    tests = read_tests([corpus(tmp_path / "test.test.parquet", [["a b c", "a"], "e f g"])])
    (pairs,) = read_pairs(translations(tmp_path / "t.parquet", ["a b c", "c"]), tests)
    (found,) = [found for found in diagnostics(pairs, "BLEU") if found.metric == "length_ratio"]
    assert found.value == pytest.approx(4 / 5) and "reference words:5" in found.signature


def test_the_brevity_penalty_is_that_of_bleu(tmp_path: Path):
    references, hypotheses = ["a b c d e", "f g h i j"], ["a b c d", "f g h i"]
    tests = read_tests([corpus(tmp_path / "test.test.parquet", references)])
    (pairs,) = read_pairs(translations(tmp_path / "t.parquet", hypotheses), tests)
    (found,) = [found for found in diagnostics(pairs, "BLEU") if found.metric == "brevity_penalty"]
    assert found.value == pytest.approx(math.exp(1 - 10 / 8))
    # all n-grams match, so BLEU is the penalty
    (bleu,) = quality(pairs, ["BLEU"])
    assert bleu.value == pytest.approx(100 * found.value) and bleu.signature in found.signature


def test_diagnostics_of_nothing_but_empty_outputs(tmp_path: Path):
    tests = read_tests([corpus(tmp_path / "test.test.parquet", ["a b", "c"])])
    (pairs,) = read_pairs(translations(tmp_path / "t.parquet", ["", ""]), tests)
    scores = {score.metric: score.value for score in diagnostics(pairs, "BLEU")}
    assert scores["repeated_token_rate"] == 0
    assert scores["length_ratio"] == scores["brevity_penalty"] == 0
    assert scores["empty_outputs"] == 2 and scores["distinct_outputs"] == 1


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


def test_a_baseline_without_the_search_is_its_first_one_and_one_that_is_named_is_that():
    searches = {"ar": ["beam", "greedy"]}.__getitem__
    assert counterparts("argmax", "ar", searches) == [("ar", "beam")]
    assert counterparts("argmax", ["ar", "ar/greedy"], searches) == [("ar", "greedy")]
