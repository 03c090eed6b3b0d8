"""Bundles: directories that an engine can load, described by one JSON file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retort.data.vocabulary import Vocabulary
from retort.errors import RetortError
from retort.runtime.names import BUNDLE

FORMAT = 1
"""Version of the format of bundles."""
ENGINES = ("onnx", "ctranslate2")
_FACTS = {
    "engine": str,
    "files": dict,
    "model": dict,
    "objective": dict,
    "precision": str,
    "search": dict,
    "searches": list,
    "vocabulary": str,
}
"""What every bundle says about itself."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are those that were exported."""

    directory: Path
    facts: dict[str, Any]
    vocabulary: Vocabulary


def read_bundle(directory: Path) -> Bundle:
    """Raises RetortError, naming the file, for a bundle that is not complete, was changed, or is of another format."""
    facts = read_facts(directory)
    for name, digest in facts["files"].items():
        try:
            actual = hashlib.sha256((directory / name).read_bytes()).hexdigest()
        except OSError as error:
            raise RetortError(
                f"{directory / name}: cannot be read ({error.strerror}), but {BUNDLE} names it; export the system again"
            ) from None
        if actual != digest:
            raise RetortError(
                f"{directory / name}: not the file that was exported (SHA-256 {actual[:12]}..., expected "
                f"{digest[:12]}...); export the system again"
            )
    vocabulary = Vocabulary.load(directory)
    if vocabulary.digest != facts["vocabulary"]:
        raise RetortError(f"{directory}: its vocabulary is not that of {BUNDLE}; export the system again")
    return Bundle(directory, facts, vocabulary)


def check_search(search: Mapping[str, Any], kinds: Sequence[str], directory: Path) -> None:
    """Raises RetortError for a search that is not among the kinds that a bundle has."""
    if search["kind"] not in kinds:
        raise RetortError(f"{directory}: this bundle decodes by {' or '.join(kinds)}, not by {search['kind']}")


def allows_unknown(search: Mapping[str, Any]) -> bool:
    """Whether outputs may hold the unknown piece. Bundles from before this option do not have it."""
    return bool(search.get("allow_unknown", False))


def read_facts(directory: Path) -> dict[str, Any]:
    """The facts of a bundle's JSON file."""
    path = directory / BUNDLE
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RetortError(f"{path}: cannot be read ({error}); expected the directory of an exported system") from None
    version = facts.get("format") if isinstance(facts, dict) else None
    if version != FORMAT:
        raise RetortError(
            f"{path}: a bundle of format {version}, and this version of Retort reads format {FORMAT}; export the "
            f"system again"
        )
    for key, kind in _FACTS.items():
        if not isinstance(facts.get(key), kind):
            raise RetortError(f"{path}: {key} is no {kind.__name__} in it, or absent; export the system again")
    if facts["engine"] not in ENGINES:
        raise RetortError(
            f"{path}: engine {facts['engine']!r}, expected {' or '.join(ENGINES)}; export the system again"
        )
    return facts  # type: ignore[no-any-return]
