"""Answers of a real system."""

import random
from types import SimpleNamespace
from typing import Any

import pytest

import retort
from retort import config
from retort.export.exporting import export_system
from retort.runtime.results import Hypothesis, Translation
from retort.serving.protocol import Asked, Refused, answer, check_sentences
from tests.unit.fakes_export import saved, text_vocabulary


def test_no_translation_depends_on_the_other_texts_of_a_request(tmp_path):
    saved(tmp_path / "ctc", text_vocabulary(tmp_path), config.Ctc(name="ctc"))
    export_system(tmp_path / "ctc", tmp_path / "bundle", precision="int8")
    translator, rng = retort.load(tmp_path / "bundle"), random.Random(3)
    texts = [" ".join("".join(rng.choices("abcdefgh", k=4)) for _ in range(rng.randint(1, 8))) for _ in range(100)]
    together = translator.translate(texts, batch_size=32)
    for running in (False, True):
        found = answer(translator, Asked(texts, running_text=running))["translations"]
        alone = [answer(translator, Asked([text], running_text=running))["translations"][0] for text in texts]
        assert found == alone
        assert [t["text"] for t in found] != [t.text for t in together]
    sentences = "abc de. Gab feh.\n\nCad."
    assert translator.segments(sentences) == ["abc de.", "Gab feh.", "Cad."]
    with pytest.raises(Refused, match="texts: 3 sentences, at most 2 per request; send several requests"):
        check_sentences(translator, Asked([sentences], running_text=True), 2)
    check_sentences(translator, Asked([sentences], running_text=True), 3)
    check_sentences(translator, Asked([sentences]), 1)


def test_running_text_has_scores_where_they_are_asked_for():
    translator: Any = SimpleNamespace(translate_text=lambda t, scores: SimpleNamespace(facts=lambda: (t, scores)))
    for scores in (True, False):
        found = answer(translator, Asked(["a", "b"], scores=scores, running_text=True))
        assert found == {"translations": [("a", scores), ("b", scores)]}


def test_who_asks_for_several_outputs_gets_a_list_even_of_one():
    one = Translation("a", (Hypothesis("A", False),), 0)
    translator: Any = SimpleNamespace(translate=lambda *_, **__: [one])
    (found,) = answer(translator, Asked(["a"], n_best=2))["translations"]
    assert found["hypotheses"] == [{"text": "A", "truncated": False}]
    assert "hypotheses" not in answer(translator, Asked(["a"]))["translations"][0]
