"""Writes the hashes of every pinned package: `make lock`, after each change of a pin. Needs uv and an index.

    python locks/update.py

- build.txt: what builds Retort, and the few packages that come as source alone;
- run.txt: what requirements.txt brings in;
- dev.txt: what requirements-dev.txt brings in besides.

They hold the hashes of all files of a version, so of every platform and Python. Two things are without a hash. torch
has other builds in other indexes (without CUDA, with another one), and they bring other packages.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = {"setuptools"}
NOT_HASHED = {"torch"}
COMPILE = ("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes")


def names(text: str) -> set[str]:
    """The normalised names of requirements, one per line."""
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "-", " "))]
    return {re.sub("[-_.]+", "-", line.partition("==")[0]).lower() for line in lines}


def hashed(requirements: str) -> dict[str, str]:
    """All packages that these requirements bring in on any platform: name and entry with hashes."""
    command = [*COMPILE, "--no-header", "--no-annotate", "--constraint", "constraints.txt", requirements]
    found = subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout
    entries = re.split(r"\n(?=\S)", found.strip())
    return {name: entry for entry in entries for name in names(entry)}


def main() -> None:
    pinned = names((ROOT / "constraints.txt").read_text()) - NOT_HASHED
    run, everything = hashed("requirements.txt"), hashed("requirements-dev.txt")
    if surplus := pinned - everything.keys():
        raise SystemExit(f"constraints.txt: nothing needs {', '.join(sorted(surplus))}; remove it")
    locks = {"build": BUILD, "run": pinned & run.keys() - BUILD, "dev": pinned - run.keys() - BUILD}
    for lock, packages in locks.items():
        entries = [everything[name] + "\n" for name in sorted(packages)]
        (ROOT / f"locks/{lock}.txt").write_text("".join(entries))
    print("without hashes:", ", ".join(sorted(everything.keys() - pinned)))


if __name__ == "__main__":
    main()
