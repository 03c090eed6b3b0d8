"""Downloads over http and https into a cache directory."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from retort import __version__
from retort.config.files import MIRROR_VARIABLE
from retort.data.files import temporary_path
from retort.errors import RetortError

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_WORTH_RETRYING = frozenset({408, 429, 500, 502, 503, 504})


def is_address(location: str) -> bool:
    """Whether ``location`` is an address rather than a path; raises RetortError if it is not http or https."""
    scheme = location.partition("://")[0].lower() if "://" in location else ""
    if scheme and scheme not in ("http", "https"):
        raise RetortError(f"{location}: cannot be downloaded; expected an http or https address, or a path")
    return bool(scheme)


def base_name(location: str) -> str:
    """Last part of a path or an address, without its query."""
    path = urllib.parse.unquote(urllib.parse.urlsplit(location).path) if is_address(location) else location
    return Path(path).name or "download"


def cached_path(address: str, cache: Path) -> Path:
    """Where the download of ``address`` is kept below ``cache``."""
    return cache / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}-{base_name(address)}"


def download(address: str, cache: Path, attempts: int = 5, timeout: float = 60.0, backoff: float = 1.0) -> Path:
    """The file at ``address``, downloaded unless ``cache`` has it.

    Lost connections, time-outs, bodies cut short and the server's temporary errors are retried, the pause of
    ``backoff`` seconds doubling each time; ``timeout`` seconds without a byte lose a connection. The file appears in
    the cache only when it is complete. Raises RetortError.
    """
    path = cached_path(address, cache)
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    for attempt in range(1, attempts + 1):
        try:
            log.info("downloading %s", address)
            _fetch(address, temporary, timeout)
            os.replace(temporary, path)
            return path
        except (OSError, http.client.HTTPException) as error:
            final = isinstance(error, urllib.error.HTTPError) and error.code not in _WORTH_RETRYING
            if final or attempt == attempts:
                times = f" after {attempt} attempts" if attempt > 1 else ""
                raise RetortError(
                    f"{address}: the download failed{times}: {error}; check the address and the connection, or set "
                    f"{MIRROR_VARIABLE} to a directory that holds {base_name(address)}"
                ) from error
            pause = backoff * 2 ** (attempt - 1)
            log.info("attempt %d of %d failed (%s); again in %g s", attempt, attempts, error, pause)
            time.sleep(pause)
        finally:
            temporary.unlink(missing_ok=True)
    raise AssertionError("unreachable")


def _fetch(address: str, path: Path, timeout: float) -> None:
    request = urllib.request.Request(address, headers={"User-Agent": f"retort/{__version__}"})
    with urllib.request.urlopen(request, timeout=timeout) as response, open(path, "wb") as handle:
        announced = response.headers.get("Content-Length")
        received = 0
        while chunk := response.read(_CHUNK):
            handle.write(chunk)
            received += len(chunk)
        handle.flush()
        os.fsync(handle.fileno())
    # http.client reports a body cut short only when it is read in one piece.
    if announced is not None and received != int(announced):
        raise OSError(f"received {received} of {announced} bytes")
