"""Addresses that texts are downloaded from. Their credentials are named as ${VARIABLE} and never written anywhere."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Callable
from pathlib import PurePath

from retort.errors import RetortError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_USER = re.compile(r"(?<=://)[^/?#\s'\"]*@")
_SECRET_QUERY = re.compile(
    r"(?<=[?&;])((?:[\w.-]*(?:token|secret|signature|password|passwd|credentials?|accesskey|apikey|keyid)"
    r"|(?:[\w.-]*[-_.])?(?:sig|key|pwd|auth|authorization))=)([^&#\s'\"]+)",
    re.I,
)
_NOT_IN_ADDRESSES = re.compile(r"[\x00-\x20\x7f\\<>\"^`]")
_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f]")
_KEPT_AS_IT_IS = "%/:=&?~+!$,;'@()*[]"
_LONGEST_PART = 255
_LONGEST_NAME = 180
"""Bytes; of the 255 of a file system a cache adds a digest and a temporary file its ending."""


def is_address(location: str) -> bool:
    """Whether ``location`` is an address rather than a path; raises RetortError if it is not http or https."""
    scheme = location.partition("://")[0].lower() if "://" in location else ""
    if scheme and scheme not in ("http", "https"):
        raise RetortError(f"{redacted(location)}: cannot be downloaded; expected an http or https address, or a path")
    return bool(scheme)


def redacted(text: str) -> str:
    """``text`` with the user names, passwords and keys of the addresses in it as ***; names of variables stay."""

    def hidden(value: str) -> str:
        return "***" if _VARIABLE.sub("", value).strip(":") else value

    text = _USER.sub(lambda match: hidden(match[0][:-1]) + "@", text)
    return _SECRET_QUERY.sub(lambda match: match[1] + hidden(match[2]), text)


def check_location(location: str) -> None:
    """Raises ValueError if ``location`` can be neither a path nor an address, or holds credentials."""
    shown = redacted(location)
    try:
        if is_address(location):
            request_of(location, lambda name: name)
        else:
            check_path(location)
    except RetortError as error:
        raise ValueError(str(error)) from None
    if shown != location:
        raise ValueError(
            f"{shown} holds a password or key, which would be in logs and reports; write the name of an environment "
            f"variable instead, such as ${{TOKEN}}, and set it where Retort runs"
        )


def check_path(path: str) -> None:
    """Raises ValueError if no file can have this path."""
    if not path or "\0" in path:
        raise ValueError(f"expected the path of a file, found {path!r}")
    if any(len(part.encode(errors="replace")) > _LONGEST_PART for part in path.split("/")):
        raise ValueError(f"a name in the path has more than {_LONGEST_PART} bytes; expected the path of a file")


def request_of(location: str, value_of: Callable[[str], str] | None = None) -> tuple[str, str | None]:
    """The address to ask for, in ASCII, and user:password if it has them.

    ``value_of`` gives the values of variables; by default they are the environment's. Raises RetortError.
    """
    value_of = value_of or _environment
    if found := _NOT_IN_ADDRESSES.search(location):
        raise RetortError(f"{redacted(location)!r}: an address has no {found[0]!r}; write %{ord(found[0]):02X}")
    try:
        parts = urllib.parse.urlsplit(location)
        host = (parts.hostname or "").encode("ascii" if ":" in (parts.hostname or "") else "idna").decode()
        port = parts.port
    except ValueError as error:
        # what cannot be read may hold a password anywhere
        name = "an address with a user" if "@" in location else f"{redacted(location)} ({error})"
        raise RetortError(f"{name} cannot be read; expected https://host/path, special characters as %xx") from None
    if not host:
        raise RetortError(f"{redacted(location)}: an address without a host; expected https://host/path")
    place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port is not None else "")
    path, query = (_filled(part, value_of) for part in (parts.path, parts.query))
    user: str | None = None
    if "@" in parts.netloc:
        literal = urllib.parse.unquote(parts.netloc.rpartition("@")[0])
        user = _VARIABLE.sub(lambda match: value_of(match[1]), literal)
    return urllib.parse.urlunsplit((parts.scheme, place, path or "/", query, "")), user


def secrets_of(location: str) -> dict[str, str]:
    """The values of the variables in ``location``, and as they are written in an address, by ${NAME}."""
    values = {name: _environment(name) for name in _VARIABLE.findall(location)}
    forms = {(name, form) for name, value in values.items() for form in (value, urllib.parse.quote(value, "")) if form}
    return {form: f"${{{name}}}" for name, form in forms}


def base_name(location: str) -> str:
    """Last part of a path or an address, without its query, as a file can be named."""
    path = location
    if is_address(location):
        path = urllib.parse.unquote(location.partition("://")[2].partition("#")[0].partition("?")[0].partition("/")[2])
    name = _NOT_IN_NAMES.sub("_", PurePath(path).name).encode()[-_LONGEST_NAME:].decode(errors="ignore")
    return name if name not in ("", ".", "..") else "download"


def _filled(part: str, value_of: Callable[[str], str]) -> str:
    """A path or query with the values of its variables, percent-encoded."""
    pieces = _VARIABLE.split(part)
    texts = [urllib.parse.quote(piece, _KEPT_AS_IT_IS) for piece in pieces[::2]]
    values = [urllib.parse.quote(value_of(name), "") for name in pieces[1::2]]
    return "".join(text + value for text, value in zip(texts, [*values, ""], strict=True))


def _environment(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise RetortError(f"the address of a text has ${{{name}}}, and the environment has no {name}; set it")
    return value
