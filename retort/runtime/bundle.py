"""Bundles: directories that an engine can load, described by one JSON file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from retort.data.files import no_file, read_text
from retort.data.vocabulary import Vocabulary
from retort.engines import EXPORT_ENGINES
from retort.errors import RetortError
from retort.runtime.names import BUNDLE, NGRAMS

FORMAT = 1
"""Version of the format of bundles."""
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
SEAL = "seal"
"""Key of the SHA-256 of all other facts; bundles of early versions lack it."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are those that were exported."""

    directory: Path
    facts: dict[str, Any]
    vocabulary: Vocabulary

    @property
    def search(self) -> dict[str, Any]:
        """The search that it was exported with, whose table of n-grams, if it has one, is in the bundle."""
        search: dict[str, Any] = self.facts["search"]
        return {**search, "table": self._path(search["table"])} if search.get("table") else search

    def with_ngrams(self, search: Mapping[str, Any]) -> Mapping[str, Any]:
        """A complete search; where it can take n-grams and names none, with those of the bundle, if it has any."""
        if NGRAMS not in self.facts["files"] or search.get("table", "") is not None:
            return search
        return {**search, "table": self._path(NGRAMS)}

    def _path(self, name: str) -> str:
        """Of a file, wherever the process goes."""
        return str((self.directory / name).absolute())


def read_bundle(directory: Path) -> Bundle:
    """Raises RetortError, naming the file, for a bundle that is not complete, was changed, or is of another format."""
    facts = read_facts(directory)
    for name, digest in facts["files"].items():
        if name != PurePath(name).name:
            raise RetortError(f"{directory / BUNDLE}: names the file {name[:80]!r}; expected files beside it")
        if not (directory / name).is_file():
            raise RetortError(
                f"{directory / name}: cannot be read ({no_file(directory / name)}), but {BUNDLE} names it; export the "
                f"system again"
            )
        with open(directory / name, "rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != digest:
            raise RetortError(
                f"{directory / name}: not the file that was exported (SHA-256 {actual[:12]}..., expected "
                f"{str(digest)[:12]}...); export the system again"
            )
    vocabulary = Vocabulary.load(directory)
    if vocabulary.digest != facts["vocabulary"]:
        raise RetortError(f"{directory}: its vocabulary is not that of {BUNDLE}; export the system again")
    model = facts["model"]
    for key, fits in (
        ("max_length", type(model.get("max_length")) is int and model["max_length"] > 1),
        ("truncate_sources", isinstance(model.get("truncate_sources"), bool)),
        ("target_size", model.get("target_size") == vocabulary.target_size),
    ):
        if not fits:
            found = str(model.get(key, "absent"))[:80]
            raise RetortError(f"{directory / BUNDLE}: model.{key} is {found} in it; export the system again")
    return Bundle(directory, facts, vocabulary)


def check_search(search: Mapping[str, Any], kinds: Sequence[str], directory: Path) -> None:
    """Raises RetortError for a search that is not among the kinds that a bundle has, or that a teacher chooses for."""
    if search["kind"] not in kinds:
        raise RetortError(f"{directory}: this bundle decodes by {' or '.join(kinds)}, not by {search['kind']}")
    if search.get("rescore") and search["candidates"] > 1:
        raise RetortError(f"{directory}: an exported system has no teacher to choose a length; set rescore to false")


def allows_unknown(search: Mapping[str, Any]) -> bool:
    """Whether outputs may hold the unknown piece. Bundles from before this option do not have it."""
    return bool(search.get("allow_unknown", False))


def seal_of(facts: Mapping[str, Any]) -> str:
    """SHA-256 in hex of the facts without their seal."""
    others = {key: value for key, value in facts.items() if key != SEAL}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def read_facts(directory: Path) -> dict[str, Any]:
    """The facts of a bundle's JSON file."""
    path = directory / BUNDLE
    try:
        facts = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise RetortError(f"{path}: cannot be read ({error}); expected the directory of an exported system") from None
    version = facts.get("format") if isinstance(facts, dict) else None
    if version != FORMAT:
        raise RetortError(
            f"{path}: a bundle of format {version}, and this version of Retort reads format {FORMAT}; export the "
            f"system again"
        )
    if facts.get(SEAL) not in (None, seal_of(facts)):
        raise RetortError(
            f"{path}: was changed after the export (another SHA-256 than it names as {SEAL}); export the system again"
        )
    for key, kind in _FACTS.items():
        if not isinstance(facts.get(key), kind):
            raise RetortError(f"{path}: {key} is no {kind.__name__} in it, or absent; export the system again")
    if facts["engine"] not in EXPORT_ENGINES:
        raise RetortError(
            f"{path}: engine {facts['engine']!r}, expected {' or '.join(EXPORT_ENGINES)}; export the system again"
        )
    return facts  # type: ignore[no-any-return]
