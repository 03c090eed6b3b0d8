"""Downloads over http and https into a cache directory."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import logging
import os
import shutil
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

from retort import __version__
from retort.config.addresses import base_name, redacted, request_of, secrets_of
from retort.config.files import MIRROR_VARIABLE
from retort.data.files import move, temporary_path, writable
from retort.errors import RetortError

log = logging.getLogger(__name__)

CACHE = Path("data")
"""Where a run keeps its downloads, below the working directory."""
MAX_BYTES = 100 * 10**9
"""Largest download; larger files are for a mirror."""
MAX_SECONDS = 24 * 3600.0
"""Longest download, all attempts together."""
SILENT_SECONDS = 60.0
"""A connection is lost that brings nothing in this time."""
SLOW_SECONDS = 60.0
"""A connection is lost that brings fewer than ``SLOW_BYTES`` of the file in this time."""
SLOW_BYTES = 16_384
KEPT_FREE = 10**9
"""Bytes that a download leaves free on the disk, or a twentieth of a small one."""

_CHUNK = 1 << 20
_WORTH_RETRYING = frozenset({408, 429, 500, 502, 503, 504})


class _Final(Exception):
    """A download failed, and would fail again."""


def cached_path(address: str, cache: Path) -> Path:
    """Where the download of ``address`` is kept below ``cache``."""
    return cache / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}-{base_name(address)}"


def download(address: str, cache: Path, attempts: int = 5, backoff: float = 1.0) -> Path:
    """The file at ``address``, downloaded unless ``cache`` has it.

    Lost connections, time-outs, bodies cut short and the server's temporary errors are retried, the pause of
    ``backoff`` seconds doubling each time. The file appears in the cache only when it is complete. Credentials of the
    address are in no message. Raises RetortError.
    """
    path = cached_path(address, cache)
    if path.exists():
        return path
    name, end = redacted(address), time.monotonic() + MAX_SECONDS
    url, user = request_of(address)
    with writable(path):
        cache.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    for attempt in range(1, attempts + 1):
        try:
            log.info("downloading %s", name)
            _fetch(url, user, path=temporary, end=end)
            with writable(path):
                move(temporary, path)
            return path
        except (OSError, http.client.HTTPException, ValueError, OverflowError, _Final) as error:
            reason = _reason(error, address)
            if attempt == attempts or _is_final(error):
                times = f" after {attempt} attempts" if attempt > 1 else ""
                raise RetortError(
                    f"{name}: the download failed{times}: {reason}; check the address and the connection, or set "
                    f"{MIRROR_VARIABLE} to a directory that holds {base_name(address)}"
                ) from None
            pause = backoff * 2 ** (attempt - 1)
            log.info("attempt %d of %d failed (%s); again in %g s", attempt, attempts, reason, pause)
            time.sleep(pause)
        finally:
            temporary.unlink(missing_ok=True)
    raise AssertionError("unreachable")


def _is_final(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code not in _WORTH_RETRYING
    return isinstance(error, _Final | ValueError | OverflowError)


def _reason(error: Exception, address: str) -> str:
    """What went wrong in one line, without the values of the address's variables."""
    text = " ".join(str(error).split()) or type(error).__name__
    for value, name in secrets_of(address).items():
        text = text.replace(value, name)
    return redacted(text)


def _fetch(url: str, user: str | None, path: Path, end: float) -> None:
    """Write what is at ``url`` to ``path``, before the clock is at ``end``."""
    request = urllib.request.Request(url, headers={"User-Agent": f"retort/{__version__}"})
    if user is not None:
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(user.encode()).decode()}")
    with _Guard(end) as guard:
        opener = urllib.request.build_opener(_Http(guard), _Https(guard), _Redirects)
        with opener.open(request, timeout=SILENT_SECONDS) as response:
            expected = _announced(response)
            limit = _limit(path.parent, expected)
            with writable(path):
                handle = open(path, "wb")  # noqa: SIM115
            with handle:
                _receive(response, handle, path=path, limit=limit, guard=guard)
    # not guarded: a slow disk is no slow server
    with writable(path), open(path, "rb+") as written:
        os.fsync(written.fileno())
    # http.client reports a body cut short only when it is read in one piece.
    if expected is not None and guard.received != expected:
        raise OSError(f"received {guard.received} of {expected} bytes")


def _announced(response: Any) -> int | None:
    """Bytes that the response says it has; None if it does not. Raises _Final if it is no whole file."""
    if response.status != 200:
        raise _Final(f"HTTP status {response.status}, expected 200 with the whole file")
    lengths = {text.strip() for text in response.headers.get_all("Content-Length", [])}
    if not lengths - {""}:
        return None
    length = ", ".join(sorted(lengths))
    if not (length.isascii() and length.isdigit() and len(length) < 19):
        raise _Final(f"the header Content-Length is {length[:20]!r}, expected a number of bytes")
    return int(length)


def _limit(directory: Path, expected: int | None) -> int:
    """Bytes that may be received; raises _Final if more are announced."""
    disk = shutil.disk_usage(directory)
    room = disk.free - min(KEPT_FREE, disk.total // 20)
    if expected is not None and expected > min(MAX_BYTES, room):
        why = f"{room:,} are free in {directory}" if room < MAX_BYTES else f"at most {MAX_BYTES:,} are downloaded"
        raise _Final(f"the server announces {expected:,} bytes, and {why}")
    return min(MAX_BYTES, room)


def _receive(response: Any, handle: Any, path: Path, limit: int, guard: _Guard) -> None:
    """Copy the body; raises _Final for one that is too large."""
    # read1 returns what one read of the socket brings, so that the guard sees a slow body
    while chunk := response.read1(_CHUNK):
        guard.received += len(chunk)
        if guard.received > limit:
            raise _Final(f"the body has more than {limit:,} bytes, which is too large or leaves no room on the disk")
        with writable(path):
            handle.write(chunk)


class _Guard:
    """Ends connections that bring too little, or that take too long: http.client waits for the next byte only.

    Entered, it watches from a thread of its own. What then fails is an OSError or _Final with the reason.
    """

    def __init__(self, end: float) -> None:
        self.received = 0
        self._end, self._sockets = end, list[socket.socket]()
        self._over, self._reason = threading.Event(), ""
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def watch(self, connection: socket.socket) -> None:
        """Have an eye on this connection, too."""
        self._sockets.append(connection)

    def __enter__(self) -> _Guard:
        self._thread.start()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._over.set()
        self._thread.join()
        if self._reason and (error is None or isinstance(error, Exception)):
            raise (_Final if time.monotonic() >= self._end else OSError)(self._reason)

    def _watch(self) -> None:
        before = 0
        while not self._over.wait(max(0.0, min(SLOW_SECONDS, self._end - time.monotonic()))):
            if time.monotonic() >= self._end:
                self._reason = f"not complete within {MAX_SECONDS / 3600:g} hours"
            elif self.received - before < SLOW_BYTES:
                self._reason = f"only {self.received - before} bytes in {SLOW_SECONDS:g} s"
            before = self.received
            if self._reason:
                for connection in self._sockets:
                    with contextlib.suppress(OSError):
                        # the method of plain sockets, as that of TLS ends the encryption under a reader
                        socket.socket.shutdown(connection, socket.SHUT_RDWR)
                return


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, not from https to http; credentials go with those on the same host only."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        fp.close()  # its body, which may have no end, is not read
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if new.scheme not in ("https", "http") or (old.scheme, new.scheme) == ("https", "http"):
            raise _Final(f"redirected from {old.scheme} to {new.scheme}://{new.hostname}; expected {old.scheme} again")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        authorization = req.unredirected_hdrs.get("Authorization")
        if request is not None and authorization and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            request.add_unredirected_header("Authorization", authorization)
        return request


class _Http(urllib.request.HTTPHandler):
    """Opens http with a guard over the connection."""

    def __init__(self, guard: _Guard) -> None:
        super().__init__()
        self._guard = guard

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_guarded, http.client.HTTPConnection, self._guard), req)  # type: ignore[arg-type]


class _Https(urllib.request.HTTPSHandler):
    """The same over TLS."""

    def __init__(self, guard: _Guard) -> None:
        super().__init__()
        self._guard = guard

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_guarded, http.client.HTTPSConnection, self._guard), req)  # type: ignore[arg-type]


def _guarded(
    kind: type[http.client.HTTPConnection], guard: _Guard, host: str, **options: Any
) -> http.client.HTTPConnection:
    """A connection that the guard watches once it is there."""
    connection = kind(host, **options)
    connect = connection.connect

    def watched() -> None:
        connect()
        guard.watch(connection.sock)

    connection.connect = watched  # type: ignore[method-assign]
    return connection
