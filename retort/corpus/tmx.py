"""Translation memories (TMX 1.4) as lines: one language of every translation unit, in the file's order.

A unit without a text in that language is an empty line, so that the languages of a file keep their pairs: cleaning
drops and counts such pairs. Inline codes (bpt, ept, it, ph, ut) are markup of other programs and are left out; the text
of hi and sub stays. Nothing outside the file is read, and a file that declares entities is refused, because
these can make a small file endless.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from xml.parsers import expat

from retort.data.lines import MAX_LINE_BYTES
from retort.errors import RetortError

_CODES = frozenset({"bpt", "ept", "it", "ph", "ut"})
_LANGUAGE = ("xml:lang", "lang")
_DEEPEST = 100
"""Elements within each other; a memory has about ten."""
_LONGEST_TAG = 2 * MAX_LINE_BYTES
_SHOWN = 20
"""Languages that an error names, and characters of each."""


def lines(chunks: Iterable[bytes], language: str, name: str) -> Iterator[str]:
    """The text of each unit in ``language``, runs of white space as one space; ``en`` also stands for ``en-GB``.

    Raises RetortError, which calls the file ``name`` and gives the line, if the bytes are no TMX, and if no unit has
    the language.
    """
    reader = _Reader(language, name)
    for chunk in chunks:
        yield from reader.feed(chunk, last=False)
    yield from reader.feed(b"", last=True)
    reader.check()


class _Reader:
    """The state between the pieces of a file."""

    def __init__(self, language: str, name: str) -> None:
        self.language, self.name = language.lower().replace("_", "-"), name
        self.found: set[str] = set()
        self.complete: list[str] = []
        self.text: str | None = None
        self.parts: list[str] = []
        self.stack: list[str] = []
        self.wanted = False
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.EntityDeclHandler = self._entity
        self.parser.SkippedEntityHandler = self._skipped
        self.fed = self.length = 0

    def feed(self, chunk: bytes, last: bool) -> list[str]:
        """The lines of the units that end in these bytes."""
        try:
            self.parser.Parse(chunk, last)
        except expat.ExpatError as error:
            found = f"line {error.lineno}: no TMX: {expat.errors.messages[error.code]}"
            raise RetortError(f"{self.name}: {found}; expected well-formed XML") from None
        except (LookupError, ValueError) as error:
            raise RetortError(f"{self.name}: line 1: {error}; convert it to UTF-8, and have it say so") from None
        self.fed += len(chunk)
        if self.fed - self.parser.CurrentByteIndex > _LONGEST_TAG:
            self._refuse(f"a tag or comment of more than {_LONGEST_TAG >> 20} MiB")
        done, self.complete = self.complete, []
        return done

    def check(self) -> None:
        """Raises RetortError if no unit had the language."""
        if not any(map(self._is_wanted, self.found)):
            languages = ", ".join(repr(name[:_SHOWN]) for name in sorted(self.found)[:_SHOWN]) or "none"
            raise RetortError(f"{self.name}: no text in {self.language!r}; the languages of this TMX are {languages}")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self.stack and tag != "tmx":
            raise RetortError(f"{self.name}: begins with <{tag}>, expected <tmx>; correct the layout")
        self.stack.append(tag)
        if len(self.stack) > _DEEPEST:
            self._refuse(f"more than {_DEEPEST} elements within each other")
        if tag == "tu":
            self.text = None
        elif tag == "tuv":
            language = next((attributes[key] for key in _LANGUAGE if key in attributes), "")
            self.found.add(language)
            # of several texts in one language the first counts
            self.wanted = self.text is None and self._is_wanted(language)
        elif tag == "seg":
            self.parts, self.length = [], 0

    def _end(self, tag: str) -> None:
        self.stack.pop()
        if tag == "seg" and self.wanted:
            self.text = " ".join("".join(self.parts).split())
            self.wanted = False
        elif tag == "tu":
            self.complete.append(self.text or "")

    def _characters(self, data: str) -> None:
        if self.wanted and "seg" in self.stack and not self._in_code():
            self.parts.append(data)
            self.length += len(data)
            if self.length > MAX_LINE_BYTES:
                self._refuse(f"a text of more than {MAX_LINE_BYTES >> 20} MiB")

    def _in_code(self) -> bool:
        """Whether the innermost of code and sub is code."""
        inner = next((tag for tag in reversed(self.stack) if tag in _CODES or tag == "sub"), None)
        return inner in _CODES

    def _entity(self, *declaration: Any) -> None:
        raise RetortError(
            f"{self.name}: line {self.parser.CurrentLineNumber}: declares an entity, which a TMX does not need; "
            f"remove it"
        )

    def _skipped(self, name: str, is_parameter: bool) -> None:
        # the parser drops entities that an outer DTD may declare
        if not is_parameter:
            self._refuse(f"&{name[:_SHOWN]}; is declared nowhere in the file", "write the character itself")

    def _refuse(self, found: str, remedy: str = "correct it there") -> None:
        raise RetortError(f"{self.name}: line {self.parser.CurrentLineNumber}: {found}; {remedy}")

    def _is_wanted(self, language: str) -> bool:
        found = language.lower().replace("_", "-")
        return found == self.language or found.startswith(f"{self.language}-")
