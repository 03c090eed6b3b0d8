"""Outputs of an external teacher: which filter rejects what, and which of several outputs trains."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from retort.config.external import CommandTeacher, Filters
from retort.distillation.filters import reason_against, repeats, share_of_scripts
from retort.distillation.judging import Judge, minimum_bayes_risk, nearest
from retort.teachers.asking import translations_part
from retort.teachers.base import Output

SOURCE = "the cat sat on the mat today"


@pytest.mark.parametrize(
    ("text", "reason", "filters"),
    [
        ("die Katze saß heute auf der Matte", None, {}),
        ("", "empty", {}),
        ("the cat sat on the Mat today", "copied", {}),
        ("the cat sat on the Mat today", None, {"copied": None}),
        ("die cat sat auf the mat heute ja", None, {}),
        ("ja " + "sehr lang und immer länger als jeder kurze Satz es sein darf weil niemand mehr aufhört zu reden "
         "und auch danach noch lange nicht schweigt ob er nun will oder nicht", "max_ratio", {}),
        ("eins zwei eins zwei eins zwei eins zwei", "repeats", {}),
        ("eins zwei eins zwei eins zwei drei", None, {}),
        ("кошка сидела на коврике сегодня утром", "scripts", {"scripts": ["latin"]}),
        ("кошка сидела на коврике сегодня утром", None, {"scripts": ["latin", "cyrillic"]}),
        ("Sure, here is the translation: die Katze", "chatter", {}),
        ('"Certainly! Here\'s your translation', "chatter", {}),
        ("Translation: die Katze saß auf der Matte", "chatter", {}),
        ("I'm sorry, but I can't help with that.", "chatter", {}),
        ("As an AI language model I do not sit", "chatter", {}),
        ("Sure, here is the translation: die Katze", None, {"chatter": []}),
        ("Sicher, hier sitzt die Katze", None, {}),
        ("Sorry, that is bad", "chatter", {"chatter": ["(?i)well", "(?i)sorry"]}),
        ("bb bad", "chatter", {"chatter": [r"(a)\1 bad", r"(b)\1 bad"]}),
    ],
)  # fmt: skip
def test_each_filter_rejects_what_it_is_for(text: str, reason: str | None, filters: Any) -> None:
    assert reason_against(SOURCE, text, False, Filters(**filters)) == reason


def test_what_the_source_does_an_output_may_do() -> None:
    assert reason_against("I'm sorry, but I was late", "I am sorry, but", False, Filters()) is None
    assert reason_against("no no no no no", "nein nein nein nein nein", False, Filters()) is None
    assert reason_against("no no no no", "nein nein nein nein", False, Filters(repeats=4)) is None
    assert reason_against("no no no yes", "nein nein nein nein", False, Filters(repeats=4)) == "repeats"
    assert reason_against("Paris", "Paris", False, Filters()) == "copied"
    assert reason_against("x", "y", True, Filters()) == "truncated"


def test_repeats_are_of_words_or_of_characters() -> None:
    assert repeats("a b c a b c a b c") == 3
    assert repeats("a") == 1 and repeats("") == 1
    assert repeats("ネコネコネコネコ") == 4
    assert share_of_scripts("ﾈｺ cat 123", ["katakana"]) == 0.4
    assert share_of_scripts("123 !?", ["latin"]) == 1


def test_the_choice_among_several() -> None:
    texts = ["ganz etwas anderes", "die Katze sitzt hier", "die Katze sitzt dort"]
    assert minimum_bayes_risk(texts) in (1, 2)
    assert nearest(texts, "etwas anderes") == 0
    assert minimum_bayes_risk(["a", "a"]) == 0


def judged(choose: Any, references: dict[int, str] | None = None) -> tuple[list[dict], list[dict], dict[str, int]]:
    section = CommandTeacher(kind="command", arguments=["none"], outputs=3, choose=choose)
    outputs = {
        5: [Output("ganz etwas anderes"), Output("die Katze sitzt hier"), Output("die Katze sitzt dort")],
        2: [Output(SOURCE), Output(""), Output("gut", "length")],
        7: [Output(""), Output("eine Katze")],
    }
    judge = Judge(section)
    part = translations_part(section, [5, 2, 7], outputs, "train")
    chosen, rejected = judge.judge(part, dict.fromkeys(outputs, SOURCE), references or {})
    counts = {row["reason"]: row["count"] for row in judge.table().to_pylist()}
    return chosen.to_pylist(), rejected.to_pylist(), counts


def test_every_source_has_one_row_and_what_is_rejected_is_kept_apart() -> None:
    chosen, rejected, counts = judged("first")
    assert [(r["id"], r["rank"], r["text"], r["rejected"]) for r in chosen] == [
        (5, 0, "ganz etwas anderes", None),
        (2, 0, SOURCE, "copied"),
        (7, 0, "eine Katze", None),
    ]
    assert [(r["id"], r["rank"], r["rejected"]) for r in rejected] == [
        (2, 0, "copied"),
        (2, 1, "empty"),
        (2, 2, "truncated"),
        (7, 0, "empty"),
    ]
    assert counts == {
        "sources": 3, "outputs": 8, "empty": 2, "truncated": 1, "chatter": 0, "copied": 1, "max_ratio": 0, "repeats": 0,
        "sources without an output": 1, "kept": 2,
    }  # fmt: skip


def test_the_choice_is_that_of_the_configuration() -> None:
    assert judged("mbr")[0][0]["text"].startswith("die Katze")
    assert judged("reference", {5: "die Katze sitzt dort"})[0][0]["text"] == "die Katze sitzt dort"
    assert judged("reference", {5: ""})[0][0]["text"].startswith("die Katze")


def test_the_output_nearest_to_the_others_trains_wherever_it_is() -> None:
    section = CommandTeacher(kind="command", arguments=["none"], outputs=3, choose="mbr")
    outputs = {1: [Output("eins zwei"), Output("drei vier"), Output("eins zwei drei vier")]}
    chosen, _ = Judge(section).judge(translations_part(section, [1], outputs, "train"), {1: "one two three four"}, {})
    assert chosen["text"].to_pylist() == ["eins zwei drei vier"]


def test_rows_of_a_source_are_taken_by_rank() -> None:
    section = CommandTeacher(kind="command", arguments=["none"], outputs=2)
    part = translations_part(section, [1], {1: [Output("erste"), Output("zweite")]}, "train")
    backwards = part.take(pa.array([1, 0]))
    assert Judge(section).judge(backwards, {1: SOURCE}, {})[0]["text"].to_pylist() == ["erste"]


def test_a_single_source_is_judged_as_one_of_many() -> None:
    section = CommandTeacher(kind="command", arguments=["none"])
    judge = Judge(section)
    judge.judge(translations_part(section, [1], {1: [Output("erste")]}, "train"), {1: SOURCE}, {})
    counts = {row["reason"]: row["count"] for row in judge.table().to_pylist()}
    assert (counts["sources"], counts["kept"]) == (1, 1)


def test_filters_keep_what_is_just_at_their_bounds() -> None:
    for source, text, reason, filters in (
        ("a b c d e", "a b c d", "copied", Filters()),
        ("a b c d e", "a b x y", "copied", Filters(copied=0.5)),
        ("a b c", "v w x y z " * 3, None, Filters(max_ratio=3, repeats=None)),
        ("a b", "ab бв", None, Filters(scripts=["latin"], script_share=0.5)),
    ):
        assert reason_against(source, text, False, filters) == reason
    assert repeats("a b c a b x") == 1
    assert share_of_scripts("コーヒー", ["katakana"]) == 1
    assert nearest(["b", "b"], "b") == 0


def test_rows_of_every_source_are_taken_by_rank() -> None:
    section = CommandTeacher(kind="command", arguments=["none"], outputs=2)
    part = translations_part(section, [1, 2], {i: [Output("eins"), Output("zwei")] for i in (1, 2)}, "train")
    chosen, _ = Judge(section).judge(part.take(pa.array([1, 0, 3, 2])), {1: "a", 2: "b"}, {})
    assert chosen["text"].to_pylist() == ["eins", "eins"]
