"""Running text: sentences and their white space, sentences that are too long, and what must come through."""

import random
import time

import pytest

from retort.errors import RetortError
from retort.runtime.kept import Keeper, Verbatim, counted
from retort.runtime.results import Hypothesis, Translation
from retort.runtime.running_text import combined, translated_lines
from retort.runtime.segments import joined, segments

SENTENCES = {
    "two": ("It rains. We stay.", ["It rains.", "We stay."]),
    "a question and an exclamation": ("Who? Me! No.", ["Who?", "Me!", "No."]),
    "abbreviations and initials": (
        "Dr. Wu met J. Bach, e.g. Monday. Fine.",
        ["Dr. Wu met J. Bach, e.g. Monday.", "Fine."],
    ),
    "small letters go on": ("At 3 p.m. they left. Да. я тут.", ["At 3 p.m. they left.", "Да. я тут."]),
    "ordinal numbers": ("Am 5. Mai war es. Ja.", ["Am 5. Mai war es.", "Ja."]),
    "numbers and addresses": ("It is 3.5 at www.x.org now. OK.", ["It is 3.5 at www.x.org now.", "OK."]),
    "quotation marks": ("»Ja.« „Nein.“ (So.) Gut.", ["»Ja.«", "„Nein.“", "(So.)", "Gut."]),
    "no spaces": ("他来了。我走了\uff01好", ["他来了。", "我走了\uff01", "好"]),
    "several marks": ("本当\uff1f\uff01はい。。。そう", ["本当\uff1f\uff01", "はい。。。", "そう"]),
    "closing marks": (
        "他说\uff1a“好。”然后走了。《你好\uff01》很好。",
        ["他说\uff1a“好。”", "然后走了。", "《你好\uff01》", "很好。"],
    ),
    "no mark": ("a title", ["a title"]),
    "white space alone": (" \t ", []),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_sentences(name):
    line, expected = SENTENCES[name]
    assert [segment.text for segment in segments(line, lambda text: True)] == expected


@pytest.mark.parametrize("seed", range(30))
def test_segments_make_the_line_again_and_fit(seed):
    rng = random.Random(seed)
    line = "".join(rng.choices("ab. A,;\u3000?1。\uff0c\u00a0é", k=rng.randint(0, 60)))
    limit = rng.randint(1, 12)
    parts = segments(line, lambda text: len(text) <= limit)
    assert "".join(part.text + part.space for part in parts) == line.strip()
    assert all(0 < len(part.text) <= limit for part in parts)


def test_a_long_sentence_is_split_at_a_clause_or_else_at_white_space():
    assert [p.text for p in segments("one two, three four five", lambda t: len(t) <= 12)] == [
        "one two,",
        "three four",
        "five",
    ]


def test_white_space_comes_from_the_line():
    line = "One.  Two.\tThree."
    assert joined(segments(line, lambda text: True), ["Eins.", "", "Drei."]) == "Eins.  Drei."
    assert joined(segments("他来了。我走了。", lambda text: True), ["He came.", "I left."]) == "He came. I left."
    assert joined(segments("One. Two.", lambda text: True), ["一。", "二。"]) == "一。二。"
    assert joined(segments("One. Two.", lambda text: True), ["“一。”", "二。"]) == "“一。”二。"
    assert joined(segments("One. Two.", lambda text: True), ["“One.”", "Two."]) == "“One.” Two."


KEPT = {
    "all": ("See https://x.org/a?b=1, 3 items.", "Siehe https://x.org/a?b=1, 3 Dinge.", []),
    "grouped otherwise": ("1,000.50 and 2'000", "1.000,50 und 2\u2019000", []),
    "grouped by spaces": ("1\u00a0000\u00a0000.5, 2,000, 1999 300", "1 000 000,5; 2 000; 1999 300", []),
    "groups of which one is lost": ("1,000 2,000", "1 000 2", [("number", "2,000")]),
    "not grouped": ("1,000,000.5 and 1.000", "1000000,5 und 1000", []),
    "a lost mark": ("It costs 3.5 euros in 12.2026.", "Es kostet 35 Euro in 12,2026.", [("number", "3.5")]),
    "an address with its numbers": ("http://x.org/12.", "http://x.org/13.", [("address", "http://x.org/12")]),
    "a mail": ("Write to a.b@x-y.org!", "Schreib!", [("address", "a.b@x-y.org")]),
    "tags": ("<b>Hi</b> &amp; <br/>", "<b>Hallo</B> &amp;", [("tag", "</b>"), ("tag", "<br/>")]),
    "as often": ("3 of 3", "3", [("number", "3")]),
    "placeholders": ("{name} has %s", "{Name} hat %s", [("placeholder", "{name}")]),
    "nothing": ("Hi", "Hallo 3", []),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_must_come_through(name):
    source, translation, lost = KEPT[name]
    kept = Keeper([r"\{\w+\}", "%s"]).compare(source, translation)
    assert kept.lost == tuple(Verbatim(*thing) for thing in lost) and kept.found >= len(lost)


def test_counts_and_bad_patterns():
    lost = [Verbatim("number", "1"), Verbatim("address", "a"), Verbatim("number", "2")]
    assert counted(lost) == "2 numbers, 1 address"
    deep, many = "(" * 9999, "x{99999999999}"
    for pattern in ("(", "x(?i)", "(?L)x", "(?<=a+)b", deep, many):
        with pytest.raises(RetortError, match="expected a regular expression"):
            Keeper([pattern])
    with pytest.raises(RetortError, match="matches text of no length"):
        Keeper(["a*"])


def test_patterns_do_not_disturb_each_other():
    keeper = Keeper([r"(?P<a>x)", r"(?P<a>y)", r"(?i)ok", r"(c)d\1", r"\b"])
    assert keeper.compare("x y OK cdc", "x").lost == tuple(Verbatim("placeholder", text) for text in ("y", "OK", "cdc"))


def test_lines_stay_and_so_do_their_edges():
    def translate(texts):
        return [Translation(text, (Hypothesis(text.upper(), False),), 0) for text in texts]

    text = "  One. Two.\n\n\t\nthree 5 \r\n"
    found = combined(translated_lines(text.split("\n"), translate, lambda t: True, Keeper()))
    assert (found.source, found.text) == (text, "  ONE. TWO.\n\n\t\nTHREE 5 \r\n")
    assert [t.source for t in found.segments] == ["One.", "Two.", "three 5"]
    assert (found.kept.found, found.kept.lost) == (1, ())


LONG = {
    "a word": "a" * 50_000,
    "words": "abc " * 12_500,
    "clauses": "a," * 25_000,
    "abbreviations": "No. " * 12_500,
    "white space": f"a{' ' * 50_000}b",
}


@pytest.mark.parametrize("name", LONG)
def test_work_is_linear_in_the_length_of_a_line(name):
    read = 0

    def fits(text):
        nonlocal read
        read += len(text)
        return len(text) <= 500

    line = LONG[name]
    parts = segments(line, fits)
    assert "".join(part.text + part.space for part in parts) == line.strip()
    assert read < 40 * len(line)


@pytest.mark.parametrize("text", ["a" * 100_000, "a." * 50_000, "a@" * 50_000, "a@b." * 25_000, "<a" * 50_000])
def test_things_are_found_in_one_pass(text):
    start = time.process_time()
    assert not Keeper().compare(text, text).lost
    assert time.process_time() - start < 5, "a search for each place would take minutes"
