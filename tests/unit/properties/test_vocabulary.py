"""What docs/corpus.md says about the way from text to tokens and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retort.config import Vocabulary as Settings
from retort.data.parquet import write_table
from retort.data.references import corpus_table
from retort.data.tables import CORPUS
from retort.data.vocabulary import BLANK, UNK, Vocabulary
from retort.data.vocabulary_training import train_vocabulary
from tests.unit.properties.strategies import few, texts

SYMBOL = "<num>"
METASPACE = "\u2581"
"""sentencepiece's own sign for a space; in a text it becomes one."""
TEXTS = ["the cat sat on the mat", "a dog & a bird: 12,5 %", "größere Straße", "猫が座る"] * 20


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory) -> dict[str, Vocabulary]:
    directory = tmp_path_factory.mktemp("vocabulary")
    write_table(directory / "c.parquet", CORPUS, corpus_table(range(len(TEXTS)), TEXTS, [[t] for t in TEXTS]))
    settings = {
        "plain": Settings(size=36),
        "bytes": Settings(size=293, byte_fallback=True, symbols=[SYMBOL]),
        "bpe": Settings(size=293, byte_fallback=True, type="bpe", symbols=[SYMBOL]),
    }
    return {name: train_vocabulary(directory / "c.parquet", s, 1, directory / name) for name, s in settings.items()}


@pytest.mark.parametrize("name", ["bytes", "bpe"])
@few
@given(st.lists(texts | st.just(SYMBOL) | st.sampled_from(TEXTS), max_size=4).map(" ".join))
def test_with_bytes_any_text_comes_back_up_to_white_space(vocabularies, name, text):
    (tokens,) = vocabularies[name].encode_target([text])
    assert all(token > BLANK for token in tokens)
    expected = " ".join(text.replace(METASPACE, " ").split())
    assert " ".join(vocabularies[name].decode_target([tokens])[0].split()) == expected


@few
@given(texts)
def test_a_text_without_unknown_pieces_comes_back(vocabularies, text):
    (tokens,) = vocabularies["plain"].encode_target([text])
    if UNK not in tokens and METASPACE not in text:
        assert vocabularies["plain"].decode_target([tokens]) == [" ".join(text.split())]


@few
@given(st.lists(st.integers(0, 292), max_size=12))
def test_any_tokens_can_be_decoded(vocabularies, tokens):
    (text,) = vocabularies["bytes"].decode_target([tokens])
    assert isinstance(text, str) and "\ud800" not in text
    text.encode()
