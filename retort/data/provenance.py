"""Provenance of results: digests of values and files, and the facts stored with every table."""

from __future__ import annotations

import hashlib
import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from retort.data.files import check_file
from retort.errors import RetortError


def value_digest(value: Any) -> str:
    """SHA-256 in hex of a JSON value; the order of keys does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_digest(path: Path | str) -> str:
    """SHA-256 in hex of a file's bytes. Raises RetortError if it cannot be read."""
    try:
        check_file(Path(path))
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise RetortError(
            f"{path}: cannot be read ({error.strerror}); give a file that an earlier stage wrote"
        ) from None


def provenance(**facts: Any) -> dict[str, Any]:
    """The facts to store with a result: Retort's version, its git commit if it runs from a checkout, and ``facts``.

    It depends neither on the time nor on the machine's name, so equal runs have equal provenance.
    """
    from retort import __version__

    return {"retort": __version__, "git": _git_commit(), **facts}


@cache
def _git_commit() -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None
