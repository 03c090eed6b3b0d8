"""What texts are called in a mirror: the directory that is used instead of downloading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from retort.config.addresses import base_name
from retort.config.corpus import TextSource
from retort.filenames import COMPRESSED


def name_in_mirror(text: TextSource) -> str:
    """Path below the mirror, plain or compressed."""
    return text.mirror_name or base_name(text.location)


def uncompressed(name: str) -> str:
    """Without the ending of a compressed file."""
    return next((name.removesuffix(suffix) for suffix in COMPRESSED if name.endswith(suffix)), name)


def clashes(texts: Iterable[tuple[str, TextSource]]) -> Iterator[tuple[str, str]]:
    """Keys of texts that have the file of an earlier one in a mirror, and what is wrong: other locations, one name."""
    first: dict[str, TextSource] = {}
    for key, text in texts:
        name = uncompressed(name_in_mirror(text))
        earlier = first.setdefault(name, text)
        if earlier.location != text.location:
            yield (
                key,
                f"{text.location} and {earlier.location} are both {name} in a mirror, which would give one text for "
                f"the two; give each a mirror_name of its own",
            )
