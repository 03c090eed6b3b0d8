"""Files that exist only when they are complete: temporary file, sync, rename."""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retort.errors import RetortError, remedy

FINISHED = "finished"
"""File in the state of work that is done; it holds the path of the output."""
_LINKS = 40
"""Links to links that are followed, as by Linux."""


def temporary_path(path: Path) -> Path:
    """Where to write ``path``, a file or a directory, until it is complete. What killed processes left is removed.

    Raises RetortError where no file can be: what is renamed to a device takes its place.
    """
    if is_special(path) or descriptor_of(path) is not None:
        raise RetortError(f"{path}: a pipe or a device, which a file must not replace; name a file")
    if not path.name:
        raise RetortError(f"{str(path)!r}: names a directory, not a file; give the name of a file")
    for stale in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        pid = stale.name.removeprefix(f".{path.name}.").removesuffix(".tmp")
        is_directory = stale.is_dir() and not stale.is_symlink()
        # in a container the next process may have the number of the killed one
        is_own = is_directory and pid == str(os.getpid())
        if not pid.isdecimal() or (is_alive(int(pid)) and not is_own):
            continue
        if is_directory:
            shutil.rmtree(stale, ignore_errors=True)
        else:
            stale.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def is_special(path: Path) -> bool:
    """Whether there is something that is neither a file nor a directory, such as a pipe or /dev/null."""
    return path.exists() and not path.is_file() and not path.is_dir()


def descriptor_of(path: Path) -> int | None:
    """The descriptor of this process that a path such as /dev/stdout names, also where that is an open file."""
    own = {Path("/dev/fd"), Path(os.path.realpath("/proc/self/fd"))}
    for _ in range(_LINKS):
        path = Path(os.path.realpath(path.parent)) / path.name
        if path.parent in own and path.name.isdecimal():
            return int(path.name)
        if not os.path.islink(path):
            break
        path = path.parent / os.readlink(path)
    return None


def check_file(path: Path) -> None:
    """Raises OSError for a pipe or a device, which may have no end."""
    if is_special(path):
        raise OSError(errno.EINVAL, no_file(path), str(path))


def read_bytes(path: Path) -> bytes:
    """The bytes of a file. Raises OSError, also for a pipe or a device."""
    check_file(path)
    return path.read_bytes()


def read_text(path: Path) -> str:
    """The same as text. Raises UnicodeDecodeError, too."""
    return read_bytes(path).decode("utf-8")


def text_or_file(argument: str) -> str:
    """The text of the file that ``@FILE`` names; any other argument as it is.

    Raises RetortError, which does not name the file, if that cannot be read.
    """
    if not argument.startswith("@"):
        return argument
    try:
        return read_text(Path(argument[1:]))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RetortError(f"cannot be read ({reason}); expected a file of JSON") from None


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write ``content`` atomically: ``path`` is unchanged or complete and on disk, whatever happens."""
    path = Path(path)
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(path)
        try:
            with open(temporary, "wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            move(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def mark_finished(state: Path, output: Path | str) -> None:
    """Mark the state of work that is done with the path of its output. It stays until the output is recorded."""
    write_bytes(state / FINISHED, str(output).encode())


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write ``path`` into a RetortError, but for a pipe whose reader has gone."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RetortError(
            f"{path}: cannot be written ({error.strerror or error}); {remedy(error)}, then give the same command again"
        ) from None


def no_file(path: Path) -> str:
    """What is where a file is expected, in words."""
    if path.is_dir():
        return "a directory"
    if path.is_symlink():
        return "a symbolic link to nothing"
    return "a pipe or a device, not a file" if path.exists() else "no such file"


def check_writable(directory: Path) -> None:
    """Raise RetortError where ``directory`` cannot be made or written in. Nothing is written."""
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not there.is_dir():
        raise RetortError(f"{there}: a file is where a directory is needed; move it, then give the same command again")
    if not os.access(there, os.W_OK | os.X_OK):
        raise RetortError(
            f"{directory.absolute()}: cannot be written; give the same command in a directory that can be written, or "
            f"give permission"
        )


def move(temporary: Path, final: Path) -> None:
    """Rename a complete file or directory to its final name, and have the directory on disk too."""
    os.replace(temporary, final)
    handle = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path | str, value: Any) -> None:
    """Write ``value`` as indented JSON, keys in the order given, ended by a newline; atomic as ``write_bytes``."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def is_alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # A killed process that nobody has waited for still has its number.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return True
