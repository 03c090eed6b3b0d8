"""What every workflow script shares: argument types for sections of the configuration, logging, and the exit on errors.

A script is ``parser() -> ArgumentParser``, ``main(args) -> None`` and ``run_script(parser(), main)`` under its
``__main__`` guard.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from retort.errors import RetortError
from retort.orphans import end_with_workflow

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def section(model: Any) -> Callable[[str], Any]:
    """An argparse ``type`` that reads a section of the configuration.

    ``model`` is a pydantic model, or any type pydantic validates (a union, a list of models). The text on the command
    line is JSON, or ``@file.json`` for the content of a file. All problems are reported at once, each with its path.
    """
    adapter = TypeAdapter(model)

    def read(text: str) -> Any:
        where = ""
        if text.startswith("@"):
            where = f"{text[1:]}: "
            try:
                text = Path(text[1:]).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise argparse.ArgumentTypeError(f"{where}cannot be read: {error}") from None
        try:
            return adapter.validate_json(text)
        except ValidationError as error:
            problems = [
                f"{'.'.join(str(part) for part in problem['loc']) or 'value'}: {problem['msg']}"
                + ("" if isinstance(problem["input"], dict | list) else f", found {problem['input']!r}")
                for problem in error.errors()
            ]
            raise argparse.ArgumentTypeError(where + "; ".join(problems)) from None

    read.__name__ = getattr(model, "__name__", "section")
    return read


def start_logging(level: int = logging.INFO) -> None:
    """Log plain lines, each with its time, to stderr."""
    logging.basicConfig(
        stream=sys.stderr, level=level, format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S", force=True
    )
    logging.captureWarnings(True)


def run_script(
    parser: argparse.ArgumentParser,
    main: Callable[[argparse.Namespace], None],
    arguments: Sequence[str] | None = None,
) -> None:
    """Parse the command line (or ``arguments``) and run ``main``.

    A RetortError becomes one ``error:`` line on stderr, with the script's name, and exit status 2; any other exception
    is a defect and keeps its traceback.
    """
    args = parser.parse_args(arguments)
    start_logging()
    end_with_workflow()
    try:
        main(args)
    except RetortError as error:
        print(f"error: {Path(parser.prog).stem}: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        print(f"error: {Path(parser.prog).stem}: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
