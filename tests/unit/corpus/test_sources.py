import bz2
import gzip
import hashlib
import io
import lzma
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from retort.config import TextSource
from retort.config.files import mirror_directory
from retort.corpus import sources
from retort.corpus.downloads import cached_path
from retort.corpus.sources import Text, TextReader, locate, read_pairs
from retort.errors import RetortError

# U+0085 and U+2028 end lines for str.splitlines, but not here; the third line is empty, the last has no newline.
CONTENT = "one  two\u0085three\n eins\u2028zwei \t\r\n\nlast".encode()
LINES = ["one  two\u0085three", "eins\u2028zwei", "", "last"]


def reader(path: Path, **options: object) -> TextReader:
    return TextReader(Text(str(path), path, "file", **options))  # type: ignore[arg-type]


def references(path: Path, **options: object) -> TextReader:
    return TextReader(Text(str(path), path, "file", **options), several=True)  # type: ignore[arg-type]


def zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)  # type: ignore[no-any-return]


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "txt": bytes,
    "gz": gzip.compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "zst": zstd,
}


def pack(folder: Path, kind: str, content: bytes) -> Path:
    path = folder / f"text.{kind}"
    if kind in PACKED:
        path.write_bytes(PACKED[kind](content))
    elif kind == "tar.zst":
        path.write_bytes(zstd(pack(folder, "tar", content).read_bytes()))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("other", b"x")
            archive.writestr("inside/text", content)
    else:
        with tarfile.open(path, "w:gz" if kind == "tgz" else "w") as archive:
            for name, data in (("./other", b"x"), ("./inside/text", content)):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", [*PACKED, "zip", "tar", "tgz", "tar.zst"])
@pytest.mark.parametrize("chunk", [1 << 20, 3])
def test_every_container_gives_the_same_lines_and_checksum(tmp_path, monkeypatch, kind, chunk):
    monkeypatch.setattr(sources, "_CHUNK", chunk)
    path = pack(tmp_path, kind, CONTENT)
    member = None if kind in PACKED else "inside/text"
    text = reader(path, member=member, sha256=hashlib.sha256(CONTENT).hexdigest())
    assert list(text) == LINES
    assert (text.lines, text.sha256) == (4, hashlib.sha256(CONTENT).hexdigest())


def test_a_text_with_and_without_its_last_newline_and_with_a_mark(tmp_path):
    for content, lines in [(b"a\nb\n", ["a", "b"]), (b"a\nb", ["a", "b"]), (b"", []), (b"\n", [""])]:
        assert list(reader(pack(tmp_path, "txt", content))) == lines
    assert list(reader(pack(tmp_path, "txt", b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n"))) == ["a", "\ufeffb"]


def test_columns(tmp_path):
    path = pack(tmp_path, "txt", b"a\tb\tc\nd\te\n")
    assert list(reader(path, column=1)) == ["b", "e"]
    with pytest.raises(RetortError, match=r"text\.txt: line 2: no column 2: 2 tab-separated"):
        list(reader(path, column=2))


@pytest.mark.parametrize("chunk", [1 << 20, 5])
def test_invalid_utf8_names_file_line_and_byte(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(sources, "_CHUNK", chunk)
    content = "ä\nbb\nccc\xff\n".encode("latin-1").replace(b"\xe4", "ä".encode())
    with pytest.raises(RetortError, match=r"text\.txt: line 3, byte 9 of the text .*0xff"):
        list(reader(pack(tmp_path, "txt", content)))


@pytest.mark.parametrize("kind", [kind for kind in PACKED if kind != "txt"])
def test_compressed_texts_are_known_by_their_first_bytes_and_damage_is_named(tmp_path, kind):
    whole = PACKED[kind](CONTENT * 100)
    path = tmp_path / "text.txt"
    path.write_bytes(whole + PACKED[kind](b"more\n"))
    assert list(reader(path))[-1] == "lastmore"
    path.write_bytes(whole[:-5])
    with pytest.raises(RetortError, match=r"text\.txt: cannot be read: .*expected plain text, gzip, bzip2, xz or zstd"):
        list(reader(path))


def test_text_that_begins_like_the_name_of_a_compression_is_text(tmp_path):
    assert list(reader(pack(tmp_path, "txt", b"BZh9 is a magic number\n"))) == ["BZh9 is a magic number"]


def test_a_mirror_may_hold_any_compression(tmp_path):
    source = TextSource(location="https://example.org/text.en.gz")
    (tmp_path / "text.en.zst").write_bytes(zstd(CONTENT))
    found = locate(source, tmp_path, tmp_path)
    assert found.origin == "mirror" and list(TextReader(found)) == LINES


def json_reader(folder: Path, content: bytes, field: str) -> TextReader:
    return reader(pack(folder, "txt", content), layout="json", field=field)


def test_json_fields_by_path_and_blank_lines(tmp_path):
    content = b'{"translation": {"en": "a  b", "de.x": "c"}}\n\n{"translation": {"en": "d", "de.x": "e"}}\n \n'
    text = json_reader(tmp_path, content, "translation.en")
    assert (list(text), text.lines) == (["a b", "d"], 2)
    assert list(json_reader(tmp_path, b'{"a.b": "x", "a": {"b": "y"}}\n', "a.b")) == ["x"]
    for field in ("translation.fr", "translation", "translation.en.x", "other.en"):
        with pytest.raises(RetortError, match=rf"text\.txt: line 1: no text '{field}'"):
            list(json_reader(tmp_path, content, field))


def test_half_a_surrogate_pair_in_json_names_the_line(tmp_path):
    content = b'{"a": "\\ud83d\\ude00"}\n\n{"a": "b \\ud83d"}\n'
    with pytest.raises(RetortError, match=r"text\.txt: line 3: field 'a' holds half of a surrogate pair"):
        list(json_reader(tmp_path, content, "a"))
    assert list(json_reader(tmp_path, content.splitlines()[0], "a")) == ["\U0001f600"]


@pytest.mark.parametrize(
    ("content", "options", "found"),
    [
        (b"a\rb\rc", {}, "end with .r alone, as on old Macs"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<tmx>', {}, "begins as XML"),
        (b"<TMX version='1.4'>\n", {}, "begins as XML"),
        (b"source\ttarget\na\tb\n", {"column": 0}, "line 1 looks like names of columns .'source"),
        (b"en\tde-AT\na\tb\n", {"column": 1}, "line 1 looks like names of columns"),
        (b"English\tGerman\na\tb\n", {"column": 1}, "line 1 looks like names of columns"),
        (b"src_text\ttgt_text\na\tb\n", {"column": 1}, "line 1 looks like names of columns"),
        (b'a\t"b c"\na\t"d"\na\te\n', {"column": 1}, "quotes of a spreadsheet .*'\"b c\"'.* are read as text"),
        (b'a\tb\na\tb\na\t"the ""d"""\n', {"column": 1}, "quotes of a spreadsheet .*the .* are read as text"),
    ],
)
def test_texts_that_are_not_what_their_lines_say_are_warned_about(tmp_path, caplog, content, options, found):
    list(reader(pack(tmp_path, "txt", content), **options))
    assert len(caplog.messages) == 1 and re.search(rf"text\.txt: .*{found}", caplog.text)


def test_usual_texts_are_not_warned_about(tmp_path, caplog):
    first = {"column": 0}
    speech = b'"a," b, "c"\tx\n"Yes."\tx\nno ""d""\tx\n'
    usual = [
        (CONTENT, {}),
        (b"a\r\nb\r\n", {}),
        (b"a b\tsource\n", first),
        (b"the question\tthe answer\n", first),
        (b"", {}),
        (speech, first),
        (b"", first),
    ]
    for content, options in usual:
        list(reader(pack(tmp_path, "txt", content), **options))
    assert not caplog.messages


def test_utf16_is_named(tmp_path):
    with pytest.raises(RetortError, match=r"text\.txt: UTF-16 by its first two bytes; expected UTF-8"):
        list(reader(pack(tmp_path, "txt", "a\nb\n".encode("utf-16"))))


def test_a_wrong_checksum_gives_both(tmp_path):
    found, expected = hashlib.sha256(CONTENT).hexdigest(), "0" * 64
    with pytest.raises(RetortError, match=rf"text\.gz: the SHA-256 .* is {found}, expected {expected}"):
        list(reader(pack(tmp_path, "gz", CONTENT), sha256=expected))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (gzip.compress(CONTENT), "expected 000.*; the downloaded file was removed: run again; if the error remains"),
        (gzip.compress(CONTENT * 100)[:-20], "cannot be read: .* a whole file; the downloaded file was removed"),
    ],
    ids=["checksum", "cut"],
)
def test_a_damaged_download_is_removed(tmp_path, content, found):
    address = "https://example.org/text.gz"
    path = cached_path(address, tmp_path)
    path.write_bytes(content)
    located = locate(TextSource(location=address, sha256="0" * 64), None, tmp_path)
    assert located.origin == "download"
    with pytest.raises(RetortError, match=rf"https://example\.org/text\.gz \(read from .*{found}"):
        list(TextReader(located))
    assert not path.exists()


NO_UTF8 = b"a\n\xff\n" * 10
CRC_OF_ANOTHER_TEXT = gzip.compress(NO_UTF8)[:-8] + gzip.compress(CONTENT)[-8:]


@pytest.mark.parametrize(
    ("content", "options", "found"),
    [
        (CRC_OF_ANOTHER_TEXT, {}, "CRC check failed.* removed: run again"),
        (CRC_OF_ANOTHER_TEXT, {"layout": "json", "field": "x"}, "CRC check failed.* removed: run again"),
        (NO_UTF8, {"sha256": "0" * 64}, "expected 000.* removed: run again"),
        (gzip.compress(NO_UTF8), {}, "line 2, byte 2 .*convert the file first$"),
        (NO_UTF8, {"sha256": hashlib.sha256(NO_UTF8).hexdigest()}, "line 2, byte 2 .*convert the file first$"),
        (gzip.compress(CONTENT), {"layout": "json", "field": "x"}, "line 1: no text 'x'"),
    ],
    ids=["crc", "crc of JSON", "checksum", "whole", "whole and plain", "another layout"],
)
def test_a_download_that_makes_no_sense_is_removed_where_it_is_damaged(tmp_path, monkeypatch, content, options, found):
    monkeypatch.setattr(sources, "_CHUNK", 5)
    address = "https://example.org/text.gz"
    path = cached_path(address, tmp_path)
    path.write_bytes(content)
    with pytest.raises(RetortError, match=found):
        list(TextReader(locate(TextSource(location=address, **options), None, tmp_path)))
    assert path.exists() == ("removed" not in found)


def test_a_damaged_file_is_removed_only_from_the_cache(tmp_path, monkeypatch):
    address, whole = "https://example.org/text.gz", gzip.compress(CONTENT * 100)
    (tmp_path / "text.gz").write_bytes(whole[:-20])
    cached_path(address, tmp_path).write_bytes(whole)
    mine = locate(TextSource(location=str(tmp_path / "text.gz")), None, tmp_path)
    mirrored = locate(TextSource(location=address), tmp_path, tmp_path)
    for located in (mine, mirrored):
        with pytest.raises(RetortError, match="a whole file$"):
            list(TextReader(located))
    downloaded = locate(TextSource(location=address), None, tmp_path)
    monkeypatch.setattr(sources, "_open", lambda text, stack: (tmp_path / "nothing").open("rb"))
    with pytest.raises(RetortError, match="a whole file$"):
        list(TextReader(downloaded))
    assert mine.path.exists() and downloaded.path.exists()


def test_files_that_cannot_be_read(tmp_path):
    whole = gzip.compress(CONTENT * 100)
    cut = tmp_path / "cut.gz"
    cut.write_bytes(whole[:-20])
    with pytest.raises(RetortError, match=r"cut\.gz: cannot be read"):
        list(reader(cut))
    for kind in ("zip", "tgz"):
        path = pack(tmp_path, kind, CONTENT)
        with pytest.raises(RetortError, match="no such member"):
            list(reader(path, member="inside/nothing"))
        with pytest.raises(RetortError, match="an archive; set member"):
            list(reader(path))
    with pytest.raises(RetortError, match=r"text\.txt, member x: cannot be read"):
        list(reader(pack(tmp_path, "txt", CONTENT), member="x"))
    with pytest.raises(RetortError, match="nothing.txt: no such file"):
        locate(TextSource(location=str(tmp_path / "nothing.txt")), None, tmp_path)


def test_a_mirror_that_is_named_comes_before_that_of_the_environment(monkeypatch):
    monkeypatch.setenv("RETORT_MIRROR", "theirs")
    assert mirror_directory(None, "mine", "other") == Path("mine") and mirror_directory(None) == Path("theirs")
    monkeypatch.setenv("RETORT_MIRROR", "")
    assert mirror_directory() is None and mirror_directory(None, "mine") == Path("mine")


def test_a_mirror_is_used_instead_of_downloading(tmp_path):
    mirror = tmp_path / "mirror"
    (mirror / "deep").mkdir(parents=True)
    (mirror / "train.en").write_bytes(CONTENT)
    (mirror / "deep" / "t.gz").write_bytes(gzip.compress(CONTENT))
    pack(mirror, "tgz", CONTENT)
    for source in [
        TextSource(location="https://example.org/a/train.en.gz"),
        TextSource(location="https://example.org/b.tgz", member="c", mirror_name="deep/t"),
        TextSource(location="https://example.org/text.tgz", member="inside/text"),
    ]:
        located = locate(source, mirror, tmp_path / "cache")
        assert located.origin == "mirror"
        assert list(TextReader(located)) == LINES
    checked = TextSource(location="https://example.org/train.en", sha256="0" * 64)
    with pytest.raises(RetortError, match=r"https://example\.org/train\.en \(read from .*expected 000"):
        list(TextReader(locate(checked, mirror, tmp_path)))
    with pytest.raises(RetortError, match=r"x\.en: not in the mirror .*looked for .*x\.en\.gz"):
        locate(TextSource(location="https://example.org/x.en"), mirror, tmp_path)
    with pytest.raises(RetortError, match=r"train\.en: not in the mirror .*nowhere \(there is no such directory\)"):
        locate(TextSource(location="https://example.org/train.en"), tmp_path / "nowhere", tmp_path)
    # A path is a path, mirror or not.
    own = TextSource(location=str(mirror / "train.en"))
    assert locate(own, mirror, tmp_path).origin == "file"


def test_a_mirror_holds_the_file_of_another_layout_or_the_lines_taken_from_it(tmp_path):
    (tmp_path / "pairs.jsonl").write_text('{"text": "one  two"}\n')
    (tmp_path / "lines.gz").write_bytes(gzip.compress(b"one two\n"))
    source = {"location": "https://example.org/pairs.jsonl", "layout": "json", "field": "text"}
    same, taken = TextSource(**source), TextSource(**source, mirror_name="lines")
    readers = [TextReader(locate(wanted, tmp_path, tmp_path)) for wanted in (same, taken)]
    assert [list(found) for found in readers] == [["one two"]] * 2
    assert [(found.text.layout, found.text.field) for found in readers] == [("json", "text"), ("lines", "")]
    # of the lines in both, so that one checksum fits both
    assert {found.sha256 for found in readers} == {hashlib.sha256(b"one two\n").hexdigest()}


def test_json_lines(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"text": " a\\n b ", "list": ["c  d", "", "e\\tf"]}\n{"text": "ä", "list": ["g"]}\n')
    options = {"layout": "json", "field": "list"}
    assert list(reader(path, layout="json", field="text")) == ["a b", "ä"]
    assert list(reader(path, **options)) == ["c d e f", "g"]
    with pytest.raises(RetortError, match=r"pairs\.jsonl: line 1: reference 2 of 3 is empty"):
        list(read_pairs([(reader(path, layout="json", field="text"), references(path, **options))]))
    with pytest.raises(RetortError, match=r"pairs\.jsonl: line 1: no text 'other'"):
        list(reader(path, layout="json", field="other"))
    for line in ("[]", '{"text": 3}', '{"text": [3]}', "text", '{"text": null}'):
        path.write_text(f'{{"text": "a"}}\n{line}\n')
        with pytest.raises(RetortError, match=r"pairs\.jsonl: line 2: no text 'text'"):
            list(reader(path, layout="json", field="text"))
    with pytest.raises(RetortError, match="expected 000"):
        path.write_text('{"text": "a"}\n')
        list(reader(path, layout="json", field="text", sha256="0" * 64))


def fairytales(folder: Path, sections: str = "1,2") -> Path:
    path = folder / "archive.zip"
    start = "FairytaleQAData-1/data-by-train-split"
    head = "question_id,cor_section,question,answer1\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{start}/questions/val/b-questions.csv", f'{head}1,1,"Who, then?","the ""fox"""\n')
        archive.writestr(f"{start}/section-stories/val/b-story.csv", 'section,text\n1,"A fox\n\ncame."\n')
        archive.writestr(f"{start}/questions/val/a-questions.csv", f'\ufeff{head}7,"{sections}",What  now?,run\n')
        archive.writestr(f"{start}/section-stories/val/a-story.csv", 'section,text\n1,One.\n2,"Two, too."\n')
    return path


def test_fairytaleqa_comes_from_its_archive(tmp_path):
    options = {"member": "val", "layout": "fairytaleqa"}
    path = fairytales(tmp_path)
    assert list(reader(path, field="question", **options)) == ["What now?", "Who, then?"]
    assert list(reader(path, field="source", **options)) == [
        "run [SEP] One. Two, too.",
        'the "fox" [SEP] A fox came.',
    ]
    with pytest.raises(RetortError, match="no questions of split 'test'"):
        list(reader(path, field="source", layout="fairytaleqa", member="test"))
    with pytest.raises(RetortError, match="no field 'answer'; use source or question"):
        list(reader(path, field="answer", **options))
    with pytest.raises(RetortError, match="question 7 is about section 3"):
        list(reader(fairytales(tmp_path, "1, 3"), field="source", **options))
    path.write_bytes(b"no archive")
    with pytest.raises(RetortError, match="archive.zip, member val: cannot be read"):
        list(reader(path, field="source", **options))


@pytest.mark.parametrize(("sources_", "targets"), [(3, 2), (2, 3), (2, 7), (0, 1)])
def test_different_numbers_of_lines_name_both_texts(tmp_path, sources_, targets):
    (tmp_path / "a").write_text("x\n" * sources_)
    (tmp_path / "b").write_text("y\n" * targets)
    with pytest.raises(RetortError, match=rf"/a has {sources_} lines and .*/b has {targets};"):
        list(read_pairs([(reader(tmp_path / "a"), reader(tmp_path / "b"))]))


def test_pairs_of_several_texts(tmp_path):
    for name, content in {"a": "1\n2\n", "b": "3\n", "c": "x\ny\n", "d": "z"}.items():
        (tmp_path / name).write_text(content)
    pairs = [(reader(tmp_path / "a"), reader(tmp_path / "c")), (reader(tmp_path / "b"), reader(tmp_path / "d"))]
    assert list(read_pairs(pairs)) == [("1", ["x"]), ("2", ["y"]), ("3", ["z"])]


def test_several_references_of_a_line(tmp_path):
    (tmp_path / "s").write_text("1\n2\n3\n4\n")
    (tmp_path / "r").write_text("a\tb b\nc\n \t\r\n d \t e \r\n")
    found = list(read_pairs([(reader(tmp_path / "s"), references(tmp_path / "r"))]))
    assert found == [("1", ["a", "b b"]), ("2", ["c"]), ("3", [""]), ("4", ["d", "e"])]
    for line, number in [("b\t\tc", 2), ("\tb\tc", 1), (" b\tc\t \r", 3)]:
        (tmp_path / "r").write_text(f"a\n{line}\nd\ne\n")
        with pytest.raises(RetortError, match=rf"/r: line 2: reference {number} of 3 is empty"):
            list(read_pairs([(reader(tmp_path / "s"), references(tmp_path / "r"))]))
    (tmp_path / "r").write_text('\n{"r": "a"}\n\n{"r": ["b", "", "c"]}\n')
    with pytest.raises(RetortError, match=r"/r: line 4: reference 2 of 3 is empty"):
        list(read_pairs([(reader(tmp_path / "s"), references(tmp_path / "r", layout="json", field="r"))]))
    (tmp_path / "r").write_text("a\tb\n")
    with pytest.raises(RetortError, match=r"/s has 4 lines and .*/r has 1;"):
        list(read_pairs([(reader(tmp_path / "s"), references(tmp_path / "r"))]))
