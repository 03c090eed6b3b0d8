"""Running text: lines that are split into segments, translated, and put together again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from retort.runtime.kept import Keeper, Kept
from retort.runtime.results import TextTranslation, Translation
from retort.runtime.segments import joined, segments


def translated_lines(
    lines: Sequence[str],
    translate: Callable[[Sequence[str]], list[Translation]],
    fits: Callable[[str], bool],
    keeper: Keeper,
) -> list[TextTranslation]:
    """Each line's translation. ``fits`` tells whether the model reads all of a text."""
    split = [segments(line, fits) for line in lines]
    translations = iter(translate([segment.text for parts in split for segment in parts]))
    found = []
    for line, parts in zip(lines, split, strict=True):
        own = tuple(next(translations) for _ in parts)
        core = line.strip()
        before, after = line[: len(line) - len(line.lstrip())], line[len(line.rstrip()) :] if core else ""
        text = before + joined(parts, [translation.text for translation in own]) + after
        found.append(TextTranslation(line, text, own, keeper.compare(line, text)))
    return found


def combined(lines: Sequence[TextTranslation]) -> TextTranslation:
    """The lines as one text."""
    kept = Kept(sum(line.kept.found for line in lines), tuple(lost for line in lines for lost in line.kept.lost))
    source, text = ("\n".join(texts) for texts in zip(*((line.source, line.text) for line in lines), strict=True))
    return TextTranslation(source, text, tuple(segment for line in lines for segment in line.segments), kept)
