"""Texts: finding them (a path, a download, a mirror), reading them line by line, and checking what was read.

A line ends with "\\n" and with nothing else; the last line may lack it. White space is stripped from the edges of a
line, or of each reference in it (which removes the "\\r" of a file with other line ends); inside, text is unchanged. A
file of another layout is converted to such lines first. Compressed files are recognised by their first bytes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tarfile
import zipfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from retort.config import CorpusSection, TextPair, TextSource
from retort.config.addresses import is_address
from retort.config.corpus import Layout
from retort.config.files import MIRROR_VARIABLE
from retort.config.mirrors import clashes, name_in_mirror, uncompressed
from retort.corpus import fairytaleqa, json_lines, tmx
from retort.corpus.downloads import download
from retort.corpus.zips import open_member
from retort.data.appearance import BEGINNING, foreign_encoding, foreign_format, is_tar, suspicions
from retort.data.compression import UNREADABLE, decompressed
from retort.data.files import no_file
from retort.data.lines import LineSplitter
from retort.errors import RetortError
from retort.filenames import COMPRESSED

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_UNREADABLE = (*UNREADABLE, zipfile.BadZipFile, tarfile.TarError)
_TAR_HEADER = 512


@dataclass(frozen=True)
class Text:
    """A text on this machine: where the configuration has it from, and where it is read."""

    location: str
    path: Path
    origin: Literal["file", "download", "mirror"]
    sha256: str | None = None
    member: str | None = None
    column: int | None = None
    layout: Layout = "lines"
    field: str = ""

    @property
    def name(self) -> str:
        """How errors name it."""
        name = self.location if str(self.path) == self.location else f"{self.location} (read from {self.path})"
        return name + (f", member {self.member}" if self.member else "")


def locate(source: TextSource, mirror: Path | None, cache: Path) -> Text:
    """Find ``source`` on this machine; downloads it into ``cache`` if it has an address and there is no mirror.

    A mirror holds the same file, or the plain text that is inside it or was extracted from it. Raises RetortError if
    there is no such file.
    """
    origin: Literal["file", "download", "mirror"] = "file"
    path, member = Path(source.location), source.member
    if is_address(source.location):
        if mirror is not None:
            origin = "mirror"
            path = in_mirror(source, mirror) or _not_in_mirror(source, mirror)
            member = member if _is_archive(path) else None
            source = mirrored(source)
        else:
            origin = "download"
            path = download(source.location, cache)
    if not os.path.isfile(path):
        raise RetortError(f"{path}: {no_file(path)}; expected a text (paths are relative to the working directory)")
    return Text(
        location=source.location,
        path=path,
        origin=origin,
        sha256=source.sha256,
        member=member,
        column=source.column,
        layout=source.layout,
        field=source.field or "",
    )


def mirrored(source: TextSource) -> TextSource:
    """``source`` as a mirror holds it: under a name of its own, the lines that were extracted from the file."""
    return source.model_copy(update={"layout": "lines", "field": None}) if source.mirror_name else source


def in_mirror(source: TextSource, mirror: Path) -> Path | None:
    """Path of ``source`` in ``mirror``, plain or compressed; None if the mirror does not have it."""
    return next((path for path in _mirror_candidates(source, mirror) if path.is_file()), None)


def check_mirror(corpus: CorpusSection) -> None:
    """Raises RetortError where a mirror cannot tell texts of the corpus apart."""
    for key, problem in clashes(corpus.mirrored_texts()):
        raise RetortError(f"corpus.{key}: {problem}")


class TextReader:
    """Iterates over the lines of a text, once; then ``lines`` is their number and ``sha256`` the digest of the text.

    ``several``: lines hold references, separated by tabs, and are not stripped. Raises RetortError for bytes that
    are not UTF-8, a column or field that a line lacks, a file that cannot be read, and, at the end, a checksum that is
    not the expected one.
    """

    def __init__(self, text: Text, several: bool = False):
        self.text = text
        self.several = several
        self.lines = 0
        self.row = 0
        """Line of a JSON file that has the last of them; 0 for other layouts."""
        self.sha256 = ""

    def __iter__(self) -> Iterator[str]:
        try:
            yield from self._lines()
        except RetortError:
            if self.text.origin == "download" and self.text.path.exists():
                self._check_whole()
            raise

    def _lines(self) -> Iterator[str]:
        text = self.text
        match text.layout:
            case "lines":
                return self._plain_lines()
            case "json":
                lines = json_lines.lines(self._rows(), text.field, text.name, self.several)
                return self._extracted_lines(lines)
            case "tmx":
                return self._extracted_lines(tmx.lines(_chunks(text), text.field, text.name))
            case "fairytaleqa":
                return self._extracted_lines(fairytaleqa.lines(text.path, text.member or "", text.field))

    def _plain_lines(self) -> Iterator[str]:
        column = self.text.column
        for line in self._raw_lines():
            self.lines += 1
            if column is not None:
                fields = line.split("\t")
                if column >= len(fields):
                    raise RetortError(
                        f"{self.text.name}: line {self.lines}: no column {column}: {len(fields)} tab-separated "
                        f"column(s) found, counted from 0; correct the line or the column"
                    )
                line = fields[column]
            # a tab at the end of several references is that of an empty one
            yield line if self.several else line.strip()
        self._check()

    def _extracted_lines(self, lines: Iterator[str]) -> Iterator[str]:
        """The lines of a file of another layout; the checksum is that of a file with these lines."""
        digest = hashlib.sha256()
        try:
            for line in lines:
                self.lines += 1
                digest.update(f"{line}\n".encode())
                yield line
        except _UNREADABLE as error:
            raise _unreadable(self.text, error) from error
        self.sha256 = digest.hexdigest()
        self._check()

    def _rows(self) -> Iterator[str]:
        """The lines of a JSON file, blank ones, too."""
        for line in self._raw_lines():
            self.row += 1
            yield line

    def _raw_lines(self) -> Iterator[str]:
        digest, splitter = hashlib.sha256(), LineSplitter(self.text.name)
        offset = number = 0
        for count, chunk in enumerate(_chunks(self.text)):
            if count == 0:
                self._notice(chunk[:BEGINNING])
            digest.update(chunk)
            if (complete := splitter.whole(chunk)) is not None:
                lines = self._decode(complete, offset, number).split("\n")
                offset, number = offset + len(complete) + 1, number + len(lines)
                yield from lines
        if rest := splitter.rest():
            yield self._decode(rest, offset, number)
        self.sha256 = digest.hexdigest()

    def _notice(self, beginning: bytes) -> None:
        """Warn about what the text looks like; raises RetortError for another encoding than UTF-8."""
        if encoding := foreign_encoding(beginning):
            raise RetortError(f"{self.text.name}: {encoding}; expected UTF-8: convert it first")
        for suspicion in suspicions(beginning, self.text.column) if self.text.layout == "lines" else ():
            _warn_once(self.text.name, suspicion)

    def _decode(self, data: bytes, offset: int, lines_before: int) -> str:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = lines_before + data.count(b"\n", 0, error.start) + 1
            raise RetortError(
                f"{self.text.name}: line {line}, byte {offset + error.start} of the text (from 0): invalid UTF-8 "
                f"(0x{data[error.start]:02x}: {error.reason}); expected UTF-8: convert the file first"
            ) from None
        return text.removeprefix("\ufeff") if offset == 0 else text

    def _check_whole(self) -> None:
        """Raises RetortError for a damaged download. What gzip reads of one may be text that makes no sense: its
        checksum is at the end."""
        if self.text.layout == "fairytaleqa":
            return
        digest = hashlib.sha256()
        for chunk in _chunks(self.text):
            digest.update(chunk)
        if self.text.layout == "lines":
            self.sha256 = digest.hexdigest()
            self._check()

    def _check(self) -> None:
        text = self.text
        if text.sha256 in (None, self.sha256):
            return
        if removal := _removal(text):
            advice = f"{removal}; if the error remains, the text at the address has changed"
        else:
            advice = "; not the text that the configuration names: correct the file or the sha256"
        raise RetortError(
            f"{text.name}: the SHA-256 of the text inside is {self.sha256}, expected {text.sha256}{advice}"
        )


@cache
def _warn_once(name: str, suspicion: str) -> None:
    """Several readers may have the same file."""
    log.warning("%s: %s", name, suspicion)


def read_pairs(pairs: Sequence[tuple[TextReader, TextReader | None]]) -> Iterator[tuple[str, list[str]]]:
    """Lines of source texts, each with its references, one pair of texts after the other. A target is the only
    reference; source-only text has none.

    Raises RetortError if a pair of texts differs in the number of lines, and for an empty reference among others.
    """
    for source, target in pairs:
        if target is None:
            yield from ((line, []) for line in source)
            continue
        lines, others = iter(source), iter(target)
        for line in lines:
            other = next(others, None)
            if other is None:
                break
            yield line, _references(other, target) if target.several else [other]
        deque(chain(lines, others), maxlen=0)  # at their ends are counts and checksums
        if source.lines != target.lines:
            raise RetortError(
                f"{source.text.name} has {source.lines} lines and {target.text.name} has {target.lines}; expected as "
                f"many: line i of one is the translation of line i of the other"
            )


def readers(pair: TextPair, mirror: Path | None, cache: Path) -> list[tuple[TextReader, TextReader | None]]:
    """Readers of the texts of a split, located; the second ones are of targets or references, None where it is
    source-only."""
    if not pair.others:
        return [(TextReader(locate(source, mirror, cache)), None) for source in pair.source]
    several = bool(pair.references)
    return [
        (TextReader(locate(source, mirror, cache)), TextReader(locate(other, mirror, cache), several))
        for source, other in zip(pair.source, pair.others, strict=True)
    ]


def _references(line: str, reader: TextReader) -> list[str]:
    references = [reference.strip() for reference in line.split("\t")] if line.strip() else [""]
    if len(references) > 1 and not all(references):
        line_number, number = reader.row or reader.lines, references.index("") + 1
        raise RetortError(
            f"{reader.text.name}: line {line_number}: reference {number} of {len(references)} is empty; expected "
            f"texts, separated by single tabs"
        )
    return references


def _mirror_candidates(source: TextSource, mirror: Path) -> list[Path]:
    name = name_in_mirror(source)
    plain = uncompressed(name)
    return [
        mirror / name,
        mirror / f"{name}.gz",
        mirror / plain,
        *(mirror / f"{plain}{suffix}" for suffix in COMPRESSED),
    ]


def _not_in_mirror(source: TextSource, mirror: Path) -> Path:
    looked = ", ".join(str(path) for path in dict.fromkeys(_mirror_candidates(source, mirror)))
    lacking = f"looked for {looked}" if mirror.is_dir() else "there is no such directory"
    raise RetortError(
        f"{source.location}: not in the mirror {mirror} ({lacking}); put it there, or do without the mirror "
        f"(corpus.mirror and the environment variable {MIRROR_VARIABLE}) to download it"
    )


def _is_archive(path: Path) -> bool:
    if zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
        return True
    try:
        with path.open("rb") as stream:
            return is_tar(decompressed(stream).read(_TAR_HEADER))
    except UNREADABLE:
        return False


def _chunks(text: Text) -> Iterator[bytes]:
    """Bytes of the text inside, decompressed."""
    with ExitStack() as stack:
        try:
            stream = _open(text, stack)
            first = True
            while chunk := stream.read(_CHUNK):
                if first:
                    _check_beginning(chunk, text)
                first = False
                yield chunk
        except _UNREADABLE as error:
            raise _unreadable(text, error) from error


def _check_beginning(chunk: bytes, text: Text) -> None:
    """Raises RetortError for what is no text."""
    if chunk.startswith(b"PK\x03\x04") or is_tar(chunk):
        raise RetortError(f"{text.name}: an archive; set member to the name of the text inside it")
    if found := foreign_format(chunk):
        raise RetortError(f"{text.name}: begins as {found}; expected text, compressed at most once: convert it first")


def _unreadable(text: Text, error: BaseException) -> RetortError:
    # an error with a number is the system's, and says nothing of the file
    removal = "" if isinstance(error, OSError) and error.errno is not None else _removal(text)
    removal += removal and "; if the error remains, check member and layout"
    return RetortError(
        f"{text.name}: cannot be read: {error or type(error).__name__}; expected plain text, gzip, bzip2, xz or "
        f"zstd, or a .zip or .tar archive, and a whole file{removal}"
    )


def _removal(text: Text) -> str:
    """Remove a download that turned out to be damaged, so that the next run fetches it again; the end of an error that
    says so. Empty for a file that stays: one that is no download, or in a cache that cannot be written."""
    if text.origin != "download":
        return ""
    try:
        text.path.unlink(missing_ok=True)
    except OSError:
        return ""
    return "; the downloaded file was removed: run again"


def _open(text: Text, stack: ExitStack) -> Any:
    """A readable binary stream of the text inside, closed with ``stack``."""
    stream: Any = None
    if text.member is None:
        stream = stack.enter_context(text.path.open("rb"))
    elif zipfile.is_zipfile(text.path):
        archive = stack.enter_context(zipfile.ZipFile(text.path))
        if text.member in archive.namelist():
            stream = stack.enter_context(open_member(archive, text.member))
    else:
        # As a stream: one pass to the member, no index of an archive that may hold gigabytes.
        packed = stack.enter_context(text.path.open("rb"))
        tar = stack.enter_context(tarfile.TarFile.open(fileobj=decompressed(packed), mode="r|"))
        for entry in tar:
            if entry.isfile() and entry.name.removeprefix("./") == text.member.removeprefix("./"):
                stream = tar.extractfile(entry)
                break
    if stream is None:
        raise RetortError(f"{text.name}: no such member in the archive; correct the member's name")
    return decompressed(stream)
