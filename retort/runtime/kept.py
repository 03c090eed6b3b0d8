"""What must come through a translation unchanged: addresses, numbers, tags, and what the user names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from retort.errors import RetortError

ADDRESS = re.compile(r"(?:https?://|www\.)[^\s<>\"]*[^\s<>\"'.,;:!?)\]}]|(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
TAG = re.compile(r"</?[A-Za-z][^<>]*>|&(?:[A-Za-z]+|#\d+);")
NUMBER = re.compile(r"\d+(?:[.,'\u2019\u00a0\u202f]\d+)*")
_GROUPING = re.compile(r"\D(?=\d{3}(?!\d))")
_MARK = re.compile(r"\D")
_BETWEEN_GROUPS = re.compile(r"(?<=\d)(?=(?:\d{3})+$)")


@dataclass(frozen=True)
class Verbatim:
    """A part of a text that must come through its translation unchanged."""

    kind: str
    """address, tag, placeholder or number."""
    text: str
    """As it is written."""


@dataclass(frozen=True)
class Kept:
    """How much of one source came through."""

    found: int
    """Things that must come through."""
    lost: tuple[Verbatim, ...]
    """Those that the translation has not, or not as often."""


class Keeper:
    """Compares sources with their translations."""

    def __init__(self, placeholders: Sequence[str] = ()) -> None:
        """``placeholders``: regular expressions. Raises RetortError for one that is none, or that matches nothing."""
        if isinstance(placeholders, str | bytes) or not isinstance(placeholders, Iterable):
            raise RetortError(f"placeholders: {placeholders!r:.80}, expected a list of regular expressions")
        named = [("placeholder", _compiled(placeholder)) for placeholder in placeholders]
        self._kinds = [*named, ("address", ADDRESS), ("tag", TAG)]

    def compare(self, source: str, translation: str) -> Kept:
        """Each thing has to be there as often as in the source. A number may be grouped otherwise: 1,000.5 is
        1.000,5, and 1 000.5."""
        wanted, had = list(self._things(source)), Counter(map(_compared, self._things(translation)))
        lost = []
        for thing in wanted:
            found = next((way for way in _readings(thing) if all(had[key] >= n for key, n in way.items())), None)
            if found is None:
                lost.append(thing)
            else:
                had.subtract(found)
        return Kept(len(wanted), tuple(lost))

    def _things(self, text: str) -> Iterator[Verbatim]:
        # a number within an address is a part of it
        for kind, pattern in self._kinds:
            yield from (Verbatim(kind, match[0]) for match in pattern.finditer(text) if match[0])
            text = pattern.sub(" ", text)
        for match in NUMBER.finditer(text):
            yield Verbatim("number", match[0])


def _compiled(placeholder: str) -> re.Pattern[str]:
    """Raises RetortError for what is no regular expression, or matches nothing."""
    try:
        pattern = re.compile(placeholder)
        matches_nothing = pattern.match("")
    except (re.error, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RetortError(
            f"placeholder {placeholder!r:.80}: {error}; expected a regular expression, such as '{{\\w+}}'"
        ) from None
    if matches_nothing:
        raise RetortError(
            f"placeholder {placeholder!r:.80}: matches text of no length; expected one that matches a thing"
        )
    return pattern


def counted(lost: Iterable[Verbatim]) -> str:
    """How many of each kind, in words."""
    counts = Counter(thing.kind for thing in lost)
    plural = {"address": "addresses"}
    return ", ".join(
        f"{count} {kind if count == 1 else plural.get(kind, kind + 's')}" for kind, count in counts.most_common()
    )


def _readings(thing: Verbatim) -> Iterator[Counter[tuple[str, str]]]:
    """What a translation that has the thing has: it, or the groups of a number, since outputs have no other space than
    the plain one."""
    kind, text = _compared(thing)
    yield Counter([(kind, text)])
    whole, *decimals = text.split(".", 1)
    if kind == "number" and len(groups := _BETWEEN_GROUPS.split(whole)) > 1:
        *groups, last = groups
        yield Counter((kind, group) for group in [*groups, ".".join([last, *decimals])])


def _compared(thing: Verbatim) -> tuple[str, str]:
    """The thing as it is compared: numbers without grouping, and with one kind of decimal mark."""
    return thing.kind, _MARK.sub(".", _GROUPING.sub("", thing.text)) if thing.kind == "number" else thing.text
