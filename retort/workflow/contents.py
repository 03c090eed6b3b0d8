"""Digests of the files that a run is given, as parameters of the jobs that read them.

Snakemake compares an input's content only where its date is newer than the results. So a text that is replaced by an
older one (mv, cp -p, tar) would go unnoticed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from retort.data.files import write_json
from retort.data.provenance import file_digest

Files = str | Iterable[str] | Mapping[str, str]
"""An input of a rule: a path, several, or several by name."""


def given_files(files: Iterable[Files], root: str) -> Iterator[str]:
    """Those of the files of a rule's inputs that no rule makes: those that are not below the run's directory."""
    for file in files:
        paths = [file] if isinstance(file, str) else file.values() if isinstance(file, Mapping) else file
        yield from (path for path in paths if not path.startswith(f"{root}/"))


class Contents:
    """Digests of files; ``kept`` is a file where they are kept from call to call, by path, size and time of change."""

    def __init__(self, kept: Path) -> None:
        self.kept = kept
        self._known: dict[str, list[int | str]] = {}
        with suppress(OSError, ValueError, TypeError):  # it only saves time
            self._known = dict(json.loads(kept.read_text(encoding="utf-8")))

    def digests(self, paths: Iterable[str]) -> dict[str, str]:
        """Start of the SHA-256 (16 hex digits) of each file by its path as given; what is no file is left out.

        Raises RetortError for a file that cannot be read.
        """
        before = dict(self._known)
        found = {path: self._digest(Path(path)) for path in paths if Path(path).is_file()}
        if self._known != before:
            with suppress(OSError):
                write_json(self.kept, self._known)
        return found

    def _digest(self, path: Path) -> str:
        name, stat = str(path.absolute()), path.stat()
        # the time of the change of its entry, which nobody sets back
        known = self._known.get(name)
        if not (isinstance(known, list) and known[:-1] == [stat.st_size, stat.st_ctime_ns]):
            known = self._known[name] = [stat.st_size, stat.st_ctime_ns, file_digest(path)[:16]]
        return str(known[-1])
