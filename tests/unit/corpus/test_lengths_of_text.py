"""Lengths of texts with and without spaces between words; the same sentence in several languages."""

import pytest

from retort.config import Cleaning
from retort.corpus.cleaning import length_verdict, loss_warning
from retort.data.writing import count_words

ENGLISH = "The old bridge was closed yesterday because of the heavy rain, and the children had to walk home."
SENTENCES = {
    "Chinese": "由于大雨、那座旧桥昨天关闭了、孩子们只好走路回家。",
    "Japanese": "大雨のため昨日その古い橋は閉鎖され、子供たちは歩いて家に帰らなければならなかった。",
    "Thai": "สะพานเก่าถูกปิดเมื่อวานนี้เพราะฝนตกหนักและเด็กๆต้องเดินกลับบ้าน",
    "Khmer": "ស្ពានចាស់ត្រូវបានបិទកាលពីម្សិលមិញដោយសារភ្លៀងធ្លាក់ខ្លាំងហើយកុមារត្រូវដើរទៅផ្ទះ",
    "Korean": "폭우 때문에 오래된 다리가 어제 폐쇄되어 아이들은 집까지 걸어가야 했다.",
    "Arabic": "أغلق الجسر القديم أمس بسبب الأمطار الغزيرة واضطر الأطفال إلى المشي إلى البيت.",
    "Hebrew": "הגשר הישן נסגר אתמול בגלל הגשם הכבד והילדים נאלצו ללכת הביתה ברגל.",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_a_right_translation_is_kept_and_one_that_is_far_too_long_is_not(language):
    text, rules = SENTENCES[language], Cleaning()
    assert 0.4 < count_words(text) / count_words(ENGLISH) < 1.6
    assert length_verdict(ENGLISH, text, rules) == "kept"
    assert length_verdict("Yes.", text * 3, rules) == "ratio"
    assert length_verdict(ENGLISH, f"{text} " * 20, rules) == "too_long"


@pytest.mark.parametrize("text", [ENGLISH, *(SENTENCES[name] for name in ("Korean", "Arabic", "Hebrew")), "", "1 2"])
def test_words_between_spaces_are_counted_as_they_are(text):
    assert count_words(text) == len(text.split())


MIXED = {
    "请使用TensorFlow、PyTorch、HuggingFaceTransformers和SentencePiece进行训练": (
        "Please use TensorFlow, PyTorch, Hugging Face Transformers and SentencePiece for the training"
    ),
    "このチュートリアルではKubernetes、DockerCompose、TerraformとAnsibleを使います": (
        "In this tutorial we are going to use Kubernetes, Docker Compose, Terraform and Ansible"
    ),
    "请访问https://www.example.com/documentation/getting-started了解更多信息": (
        "Please visit https://www.example.com/documentation/getting-started to learn more about it"
    ),
}


@pytest.mark.parametrize("text", MIXED)
def test_names_and_addresses_between_letters_without_spaces_are_words(text):
    assert length_verdict(text, MIXED[text], Cleaning(max_ratio=2)) == "kept"


def test_a_few_characters_of_another_script_change_little():
    assert count_words("He said 你好 to me.") == pytest.approx(4 + 2 / 1.7)
    assert count_words("他说 hello 然后就回家了") == pytest.approx(1 + 8 / 1.7)


def test_a_split_that_loses_more_than_a_tenth_is_warned_about():
    assert loss_warning("train", {"read": 100, "kept": 90, "ratio": 10}) is None
    assert loss_warning("train", {"read": 100, "kept": 10, "not_drawn": 90}) is None
    found = loss_warning("train", {"read": 100, "kept": 80, "empty": 1, "ratio": 19})
    assert found == "train: cleaning takes 20 % of the pairs, most as ratio; see docs/corpus.md"


def test_the_longest_text_that_is_allowed_is_kept():
    rules = Cleaning(max_words=3, max_ratio=None)
    assert [length_verdict("a " * n, "a", rules) for n in (3, 4)] == ["kept", "too_long"]
