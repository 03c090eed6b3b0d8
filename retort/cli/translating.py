"""What ``retort translate`` does: reads lines, translates them in batches, writes and counts."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from retort.cli.formats import as_columns, as_json, running_text
from retort.cli.lines import batches, opened, output, reader, size
from retort.cli.progress import Progress, is_terminal
from retort.cli.searches import chosen_search
from retort.data.streams import complain
from retort.errors import RetortError
from retort.runtime.kept import Keeper, Verbatim, counted
from retort.runtime.opening import check_teacher, open_system
from retort.runtime.system import BATCH_SIZE
from retort.runtime.translator import Translator

NAMED, SHOWN = 10, 80
"""Lines, and things of a line, that are named; characters of a thing."""


def translate(args: argparse.Namespace) -> None:
    """One line out for each line in, in order; an empty line stays empty; output is flushed batch by batch.

    Input is treated as texts of a corpus are. Each source that is cut is named on standard error.
    """
    _check(args)
    system = open_system(args.model, chosen_search(args), args.threads, args.precision, args.teacher, args.device)
    check_teacher(system, args.teacher)
    mode = RunningText(Translator(system), args) if args.text else Segments(Translator(system), args)
    name = str(args.input or "standard input")
    with opened(args.input) as lines, output(args.output) as write:
        read, more_waits = reader(lines, name)
        with Progress(size(lines), to_terminal=args.output is None and is_terminal(sys.stdout)) as progress:
            done = 0
            at_once = args.batch_size or BATCH_SIZE
            for texts in batches(read, more_waits, size=at_once, name=name, strip=not args.text):
                written, remarks = mode.translated(texts, done + 1)
                write(written)
                for remark in remarks:
                    progress.complain(f"warning: retort: {name}: {remark}")
                done += len(texts)
                progress.add(texts)
    if summary := mode.summary(done):
        complain(f"warning: retort: {name}: {summary}")


def _check(args: argparse.Namespace) -> None:
    """Raises RetortError for options that do not go together."""
    if args.keep and not args.text:
        raise RetortError("--keep is of --text; give both")
    if args.text and args.n_best > 1:
        raise RetortError(f"--n-best {args.n_best}: a line of --text has one translation; leave one of them out")
    if args.text and args.scores and not args.json:
        raise RetortError("--scores of --text are those of its segments, which --json writes; add --json")


class Segments:
    """Each line is one segment."""

    def __init__(self, translator: Translator, args: argparse.Namespace) -> None:
        self._translator = translator
        self._options = {"n_best": args.n_best, "scores": args.scores, "batch_size": args.batch_size}
        several = args.n_best > 1
        self._form = partial(as_json, with_all=several) if args.json else partial(as_columns, ranks=several)
        self._cut = 0

    def translated(self, texts: list[str], first: int) -> tuple[str, list[str]]:
        """What to write for these lines, and what to say about them; ``first`` is the number of the first."""
        translations = self._translator.translate(texts, **self._options)
        numbered = list(enumerate(translations, start=first))
        read = self._translator.longest_source
        remarks = [
            f"line {number}: {read + t.source_cut} tokens, and the model reads {read}; the last {t.source_cut} are not "
            f"translated: split the line, or use --text"
            for number, t in numbered
            if t.source_cut
        ]
        self._cut += len(remarks)
        return "".join(self._form(number, t) for number, t in numbered), remarks

    def summary(self, lines: int) -> str | None:
        """What to say at the end."""
        return f"{self._cut} of {lines} lines were longer than the model reads" if self._cut else None


class RunningText:
    """Lines are split into segments and put together again."""

    def __init__(self, translator: Translator, args: argparse.Namespace) -> None:
        self._translator, self._keeper = translator, Keeper(args.keep)
        self._options = {"scores": args.scores, "batch_size": args.batch_size}
        self._form = as_json if args.json else running_text
        self._found = self._named = 0
        self._lost: list[Verbatim] = []

    def translated(self, texts: list[str], first: int) -> tuple[str, list[str]]:
        """As that of ``Segments``."""
        numbered = list(enumerate(self._translator.translate_lines(texts, self._keeper, **self._options), start=first))
        remarks = []
        for number, t in numbered:
            self._found += t.kept.found
            self._lost += t.kept.lost
            if t.kept.lost and self._named < NAMED:
                self._named += 1
                lost = ", ".join(f"{thing.text[:SHOWN]} ({thing.kind})" for thing in t.kept.lost[:NAMED])
                remarks.append(f"line {number}: not in the translation: {lost}")
        return "".join(self._form(number, t) for number, t in numbered), remarks

    def summary(self, lines: int) -> str | None:
        """As that of ``Segments``."""
        if not self._lost:
            return None
        return f"{len(self._lost)} of {self._found} things to keep are lost: {counted(self._lost)}"
