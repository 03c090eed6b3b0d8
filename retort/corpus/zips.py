"""Members of zip archives."""

from __future__ import annotations

import zipfile
from typing import IO


def open_member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Open a member for reading. Raises BadZipFile where it is encrypted or compressed by an unknown method, and
    KeyError where it is absent."""
    try:
        return archive.open(name)
    except RuntimeError as error:
        raise zipfile.BadZipFile(f"{error}; pack it again, by an ordinary method and without a password") from None
