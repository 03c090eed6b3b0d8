"""Translation memories and Moses pairs as texts."""

import gzip
import itertools
import zipfile
from pathlib import Path

import pytest

from retort.config import Cleaning, TextCorpus, TextSource
from retort.corpus import tmx
from retort.corpus.preparation import prepare_corpus
from retort.corpus.sources import Text, TextReader
from retort.data.parquet import read_table
from retort.data.tables import CORPUS
from retort.errors import RetortError

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n<tmx version="1.4"><header/><body>\n'
UNITS = """<tu><prop type="x">no text</prop>
  <tuv xml:lang="en"><seg>A  dog &amp; a
cat</seg></tuv><tuv xml:lang="de-AT"><seg>Ein Hund und eine Katze</seg></tuv></tu>
<tu><tuv xml:lang="EN-us"><seg>Press <bpt i="1">&lt;b&gt;</bpt>here<ept i="1">&lt;/b&gt;</ept><ph>{1}</ph> now</seg>
  </tuv><tuv lang="DE"><seg>Hier <hi>jetzt</hi> <ph>x<sub>drücken</sub></ph></seg></tuv></tu>
<tu><tuv xml:lang="en"><seg>only English</seg></tuv><tuv xml:lang="enm"><seg>Middle English</seg></tuv></tu>
<tu><tuv xml:lang="de"><seg>eins</seg></tuv><tuv xml:lang="de"><seg>zwei</seg></tuv><tuv xml:lang="en"><seg/></tuv></tu>
"""
WHOLE = f"{HEAD}{UNITS}</body></tmx>\n".encode()
LINES = {
    "en": ["A dog & a cat", "Press here now", "only English", ""],
    "de": ["Ein Hund und eine Katze", "Hier jetzt drücken", "", "eins"],
}


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("language", LINES)
def test_units_are_lines_however_the_bytes_are_cut(language, size):
    chunks = [WHOLE[i : i + size] for i in range(0, len(WHOLE), size)]
    assert list(tmx.lines(chunks, language, "memory.tmx")) == LINES[language]


def test_languages_may_be_written_with_an_underscore():
    whole = WHOLE.replace(b'"de-AT"', b'"de_AT"')
    assert list(tmx.lines([whole], "de_AT", "m.tmx")) == list(tmx.lines([WHOLE], "de-AT", "m.tmx"))


def test_utf16_is_read_by_its_declaration():
    data = f"{HEAD}{UNITS}</body></tmx>".replace("UTF-8", "UTF-16").encode("utf-16")
    assert list(tmx.lines([data], "de", "memory.tmx")) == LINES["de"]


BOMB = '<!DOCTYPE tmx [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><tmx><body><tu/></body></tmx>'
BROKEN = {
    "another language": (
        WHOLE,
        "fr",
        "no text in 'fr'; the languages of this TMX are 'DE', 'EN-us', 'de', 'de-AT'",
    ),
    "cut short": (WHOLE[:-20], "de", r"line \d+: no TMX: .*expected well-formed XML"),
    "no XML": (b"one line\nanother\n", "de", "line 1: no TMX"),
    "other XML": (b"<html><p/></html>", "de", "begins with <html>, expected <tmx>"),
    "entities": (BOMB.encode(), "de", "line 1: declares an entity"),
    "nothing": (b"", "de", "line 1: no TMX: no element found"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_memory_is_one_clear_error(name):
    data, language, said = BROKEN[name]
    with pytest.raises(RetortError, match=f"memory.tmx: {said}"):
        list(tmx.lines([data], language, "memory.tmx"))


def test_a_compressed_memory_has_a_checksum_of_its_lines(tmp_path: Path):
    path = tmp_path / "memory.tmx.gz"
    path.write_bytes(gzip.compress(WHOLE))
    reader = TextReader(Text(str(path), path, "file", layout="tmx", field="de"))
    assert list(reader) == LINES["de"] and reader.lines == 4 and len(reader.sha256) == 64


def corpus(pair: dict) -> TextCorpus:
    swapped = {"source": pair["target"], "target": pair["source"]}
    return TextCorpus.model_validate({"kind": "text", "train": pair, "valid": swapped, "tests": {"t": pair}})


def test_pairs_of_a_memory_stay_pairs_and_incomplete_ones_are_counted(tmp_path: Path):
    path = tmp_path / "memory.tmx"
    path.write_bytes(WHOLE)
    pair = {
        side: [{"location": str(path), "layout": "tmx", "field": language}]
        for side, language in (("source", "en"), ("target", "de"))
    }
    facts = prepare_corpus(corpus(pair), Cleaning(drop_leaks=False), tmp_path / "out")
    assert (facts["cleaning"]["train"]["kept"], facts["cleaning"]["train"]["empty"]) == (2, 2)
    assert [(text["layout"], text["field"]) for text in facts["texts"][:2]] == [("tmx", "en"), ("tmx", "de")]
    rows = read_table(tmp_path / "out" / "train.parquet", CORPUS).to_pylist()
    assert [(row["source"], row["target"]) for row in rows] == list(zip(LINES["en"], LINES["de"], strict=True))[:2]


def test_moses_pairs_are_two_members_of_one_archive(tmp_path: Path):
    path = tmp_path / "de-en.txt.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README", "x")
        archive.writestr("Tatoeba.de-en.de", "eins\nzwei\n")
        archive.writestr("Tatoeba.de-en.en", "one\ntwo\n")
    pair = {
        side: [{"location": str(path), "member": f"Tatoeba.de-en.{language}"}]
        for side, language in (("source", "de"), ("target", "en"))
    }
    prepare_corpus(corpus(pair), Cleaning(drop_leaks=False), tmp_path / "out")
    rows = read_table(tmp_path / "out" / "train.parquet", CORPUS).to_pylist()
    assert [(row["source"], row["target"]) for row in rows] == [("eins", "one"), ("zwei", "two")]


def test_a_language_is_needed():
    with pytest.raises(ValueError, match="a layout other than lines"):
        TextSource(location="x.tmx", layout="tmx")


def test_a_tag_without_an_end_ends(monkeypatch):
    monkeypatch.setattr(tmx, "_LONGEST_TAG", 1000)
    endless = (b"x" * 100 for _ in itertools.count())
    with pytest.raises(RetortError, match="memory.tmx: line 2: a tag or comment of more than"):
        list(tmx.lines(itertools.chain([b'<tmx version="1.4">\n<body x="'], endless), "de", "memory.tmx"))


def test_a_language_whose_code_only_begins_alike_is_another_one():
    unit = '<tu><tuv xml:lang="fil"><seg>aso</seg></tuv></tu><tu><tuv xml:lang="fi"><seg>koira</seg></tuv></tu>'
    assert list(tmx.lines([f"{HEAD}{unit}</body></tmx>".encode()], "fi", "memory.tmx")) == ["", "koira"]
