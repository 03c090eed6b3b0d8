"""Reading and cleaning, for any text."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retort.config import Cleaning
from retort.corpus.cleaning import HeldOut, counts, judge_training, kept
from retort.corpus.sources import Text, TextReader
from retort.data.parquet import write_table
from retort.data.references import corpus_table
from retort.data.tables import CORPUS
from tests.unit.properties.strategies import few, lines, texts, words

PACKED = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("packed", PACKED)
@few
@given(st.lists(lines, max_size=8), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_lines_come_back_without_the_white_space_at_their_edges(packed, content, ended, end):
    data = end.join(content) + (end if ended else "")
    expected = [line.strip() for line in data.split("\n")]
    expected = expected[:-1] if data.endswith("\n") or not data else expected
    if expected and data.startswith("\ufeff"):
        expected[0] = data.split("\n")[0].removeprefix("\ufeff").strip()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "text")
        path.write_bytes(PACKED[packed](data.encode()))
        reader = TextReader(Text(str(path), path, "file"))
        assert list(reader) == expected and reader.lines == len(expected)


def verdicts_of(pairs: list[tuple[str, str]], rules: Cleaning, held_out: HeldOut | None = None):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "train.parquet")
        table = corpus_table(range(len(pairs)), [s for s, _ in pairs], [[t] for _, t in pairs])
        write_table(path, CORPUS, table)
        return judge_training(path, rules, held_out or HeldOut())


@pytest.mark.slow
@few
@given(
    st.lists(st.tuples(words, words), max_size=20),
    st.none() | st.integers(1, 4),
    st.none() | st.floats(1, 3),
    st.booleans(),
)
def test_every_pair_has_one_verdict_and_what_is_kept_is_clean(pairs, max_words, max_ratio, drop_duplicates):
    rules = Cleaning(max_words=max_words, max_ratio=max_ratio, drop_duplicates=drop_duplicates)
    verdicts = verdicts_of(pairs, rules)
    numbers = counts(verdicts)
    assert numbers.pop("read") == len(pairs) == sum(numbers.values())
    left = [pair for pair, keep in zip(pairs, kept(verdicts).tolist(), strict=True) if keep]
    assert all(source and target for source, target in left)
    assert not drop_duplicates or len(single_spaced(left)) == len(left)
    assert kept(verdicts_of(left, rules)).all(), "cleaning twice drops nothing more"
    if drop_duplicates:
        clean = [p for p in pairs if kept(verdicts_of([p], rules)).all()]
        assert single_spaced(left) == single_spaced(clean), "order does not matter"


def single_spaced(pairs: list[tuple[str, str]]) -> set[tuple[str, ...]]:
    return {tuple(" ".join(text.split()) for text in pair) for pair in pairs}


@pytest.mark.slow
@few
@given(st.lists(st.tuples(texts, texts), max_size=6), st.lists(st.tuples(words, words), max_size=6))
def test_no_side_of_a_held_out_pair_is_left_in_train(train, test):
    held_out = HeldOut()
    held_out.add(corpus_table(range(len(test)), [s for s, _ in test], [[t] for _, t in test]))
    sources, targets = {s for s, _ in test}, {t for _, t in test}
    pairs = [*train, *test]
    for (source, target), keep in zip(pairs, kept(verdicts_of(pairs, Cleaning(), held_out)).tolist(), strict=True):
        assert not keep or (source not in sources and target not in targets)
