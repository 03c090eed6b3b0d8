"""The command line: ``retort check``, ``retort translate``, ``retort export``, ``retort init``, ``retort run``
and ``retort why``.

Nothing of weight is imported before it is needed: an exported system translates without torch and pydantic.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from retort import __version__
from retort.data.streams import complain, replace_closed_streams, write_out
from retort.errors import RetortError, refusal
from retort.workflow.arguments import count, threads

_BLOCK = 1 << 16
_BEGINNING = 16
"""Bytes that tell a compression."""


OWN_RUN = Path()
"""--shortlist without a path."""


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(prog="retort", description="Fast students of slow sequence generators.")
    arguments.add_argument("--version", action="version", version=f"retort {__version__}")
    commands = arguments.add_subparsers(dest="command", required=True)
    _add_init(commands)
    check = commands.add_parser("check", help="check a configuration, and list everything that is wrong with it")
    check.add_argument("files", nargs="+", type=Path, help="configuration files; a later one overrides an earlier one")
    run = commands.add_parser("run", help="run a configuration: snakemake with the right flags")
    run.add_argument("configuration", type=Path)
    run.add_argument("arguments", nargs=argparse.REMAINDER, help="targets and flags of snakemake")
    why = commands.add_parser("why", help="say whether a result of a run would be made again, and what changed")
    why.add_argument("result", type=Path, help="a file below results/<run>/ that a rule makes")
    why.add_argument(
        "--configfile", nargs="+", help="configuration to run with; default: the one that the run was started with"
    )
    why.add_argument("--json", action="store_true", help="answer as JSON")
    _add_translate(commands)
    _add_export(commands)
    return arguments


def _add_init(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    init = commands.add_parser("init", help="look at parallel text, and write a configuration that suits it")
    init.add_argument("texts", nargs="+", type=Path, help="source and target file, or one TSV or JSON lines file")
    init.add_argument("--output", type=Path, help="file to write; default: <name>.yaml")
    init.add_argument("--name", help="name of the run; default: that of the first file")
    wanted = init.add_mutually_exclusive_group()
    wanted.add_argument("--quick", dest="preset", action="store_const", const="quick", help="one student, few updates")
    wanted.add_argument("--quality", dest="preset", action="store_const", const="quality", help="long trainings")
    wanted.add_argument("--gpu", dest="preset", action="store_const", const="gpu", help="a larger model, large batches")
    init.set_defaults(preset="usual")


def _add_translate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    translate = commands.add_parser(
        "translate", help="translate lines from standard input, or --input, to standard output"
    )
    translate.add_argument(
        "--model", type=Path, required=True, help="directory of a trained checkpoint or of an exported system"
    )
    translate.add_argument(
        "--input", type=Path, help="text file, one segment a line, plain or compressed; default: standard input"
    )
    translate.add_argument("--search", help="""search as JSON, such as '{"kind": "beam", "beam_size": 5}'""")
    translate.add_argument(
        "--mode",
        choices=["ar", "nar"],
        help="left to right, or in parallel; default: as its objective has it",
    )
    translate.add_argument("--passes", type=count, help="decoder passes of the parallel mode")
    translate.add_argument("--block", type=count, help="tokens that the parallel mode predicts at once")
    translate.add_argument(
        "--teacher", type=Path, help="directory of a checkpoint, for a search that has a teacher score its candidates"
    )
    translate.add_argument("--batch-size", type=count, default=32, help="lines translated together (default 32)")
    translate.add_argument("--threads", type=threads, default=os.cpu_count() or 1)
    translate.add_argument(
        "--precision", choices=["float32", "bfloat16"], help="of a checkpoint's weights (default float32)"
    )


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = commands.add_parser("export", help="write a checkpoint for a faster engine, which needs no torch")
    export.add_argument("--model", type=Path, required=True, help="directory of a trained checkpoint")
    export.add_argument("--output", type=Path, required=True, help="directory to write; must not exist or be empty")
    export.add_argument(
        "--format",
        choices=["onnx", "ctranslate2"],
        help="onnx for models that decode in parallel, ctranslate2 for those from left to right; default: what fits",
    )
    export.add_argument("--precision", choices=["float32", "int8"], default="float32", help="default float32")
    export.add_argument("--search", help="how the exported system decodes, as for translate")
    export.add_argument(
        "--check",
        type=Path,
        help="lines of source text to compare the outputs on; default: the first test set of the checkpoint's run",
    )
    export.add_argument("--references", type=Path, help="references of those lines, to measure BLEU")
    export.add_argument(
        "--shortlist",
        type=Path,
        nargs="?",
        const=OWN_RUN,
        help="score a few candidates per source piece instead of the whole vocabulary, chosen from "
        "this encoded training text, or that of this run; default: the run that the checkpoint is in",
    )
    export.add_argument(
        "--shortlist-size", type=count, help="candidates per source piece, and frequent pieces (default 50)"
    )


def _arguments() -> argparse.Namespace:
    try:
        return parser().parse_args()
    except SystemExit:
        # --help and --version have written, too
        if sys.stdout is not None:
            write_out("")
        raise


def main() -> None:
    replace_closed_streams()
    try:
        args = _arguments()
        {"translate": translate, "export": export, "check": check, "why": why, "init": init, "run": run}[args.command](
            args
        )
    except RetortError as error:
        _fail(str(error))
    except BrokenPipeError:
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, MemoryError, RuntimeError) as error:
        if (refused := refusal(error)) is None:
            raise
        _fail(refused)


def _fail(message: str) -> NoReturn:
    complain(f"error: retort: {message}")
    sys.exit(2)


def translate(args: argparse.Namespace) -> None:
    """One line out for each line in, in order; an empty line stays empty; output is flushed batch by batch.

    Input is treated as texts of a corpus are. Each source that is cut is named on standard error.
    """
    from retort.runtime import open_system

    system = open_system(args.model, _chosen_search(args), args.threads, args.precision, args.teacher)
    with _opened(args.input) as lines:
        name = str(args.input or "standard input")
        read, more_waits = _reader(lines, name)
        done = cut = 0
        for texts in _batches(read, more_waits, size=args.batch_size, name=name):
            outputs = system.translate(texts)
            write_out("".join(f"{output.text}\n" for output in outputs))
            for number, output in enumerate(outputs, start=done + 1):
                if output.source_cut:
                    cut += 1
                    _say_cut(name, number, read=system.max_length - 1, cut=output.source_cut)
            done += len(outputs)
    if cut:
        complain(f"warning: retort: {name}: {cut} of {done} lines were longer than the model reads")


def _opened(path: Path | None) -> IO[bytes]:
    """The bytes of a file, or of standard input."""
    if path is None:
        if sys.stdin is None:
            raise RetortError("standard input is closed; give lines, or the name of a file by --input")
        return sys.stdin.buffer
    try:
        return open(path, "rb")
    except OSError as error:
        raise RetortError(f"--input {path}: cannot be read ({error.strerror}); expected a text file") from None


def _say_cut(name: str, number: int, read: int, cut: int) -> None:
    complain(
        f"warning: retort: {name}: line {number}: {read + cut} tokens, and the model reads {read}; the last {cut} are "
        f"not translated: split the line"
    )


def _chosen_search(args: argparse.Namespace) -> dict[str, Any] | None:
    """The search that the arguments choose; None if they say nothing."""
    from retort.runtime.opening import read_objective

    if args.search is None and not (args.mode or args.passes or args.block):
        return None
    return _search(args, read_objective(args.model)).model_dump()  # type: ignore[no-any-return]


def _search(args: argparse.Namespace, objective: dict[str, Any]) -> Any:
    """The search that the arguments choose for a model trained with this objective, a section of the configuration."""
    from retort.config import objective_named

    name, declared = objective["name"], objective_named(objective["name"])
    assert declared is not None, name
    allowed = declared.searches()
    decodes = f"a model trained as {name} decodes by {' or '.join(allowed)}"
    if args.search is not None:
        if args.mode or args.passes or args.block:
            raise RetortError("--search says how to decode; leave out --mode, --passes and --block")
        search = _parsed_search(args.search)
        if search.kind not in allowed:
            raise RetortError(f"--search {search.kind}: {decodes}")
        return search
    for option, value, kind in (("passes", args.passes, "mask_predict"), ("block", args.block, "blocks")):
        if value and args.mode == "ar":
            raise RetortError(f"--{option} {value}: only the parallel mode has {option}; add --mode nar")
        if value and kind not in allowed:
            raise RetortError(f"--{option} {value}: {decodes}, which has no choice of {option}")
    if args.passes:
        return _parsed_search(json.dumps({"kind": "mask_predict", "iterations": args.passes}))
    if args.block:
        return _parsed_search(json.dumps({"kind": "blocks", "block": args.block}))
    # searches of the modes that it was trained for come first
    for search in [*declared.default_searches(objective).values(), *declared.usual_searches.values()]:
        if (search.decodes == "next_token") == (args.mode == "ar"):
            return search
    raise RetortError(f"--mode {args.mode}: {decodes}, and has no such mode")


def _parsed_search(text: str) -> Any:
    """The search of a JSON text, complete."""
    from pydantic import TypeAdapter, ValidationError

    from retort.config import Search
    from retort.config.problems import shown

    try:
        return TypeAdapter(Search).validate_json(text.encode("utf-8", "surrogateescape"))
    except ValidationError as error:
        problem = error.errors()[0]
        where = "".join(f"{part}: " for part in problem["loc"][1:])
        found = "" if problem["type"].startswith("json") else f", found {shown(problem['input'])}"
        raise RetortError(f"--search {text[:200]}: {where}{problem['msg']}{found}") from None


def export(args: argparse.Namespace) -> None:
    """Write one bundle, and say what it changes."""
    from retort.export.card import parity_sentence, shortlist_sentence
    from retort.export.exporting import ShortlistSource, export_system
    from retort.export.parity import lines_of_file, lines_of_run
    from retort.export.shortlist import SIZE

    if args.references and not args.check:
        raise RetortError("--references are of the lines of --check; give both")
    search = None if args.search is None else _parsed_search(args.search).model_dump()
    lines = lines_of_file(args.check, args.references) if args.check else lines_of_run(args.model)
    shortlist = None
    if args.shortlist is not None:
        path = None if args.shortlist is OWN_RUN else args.shortlist
        shortlist = ShortlistSource(path, args.shortlist_size or SIZE)
    elif args.shortlist_size:
        raise RetortError("--shortlist-size is of --shortlist; give both")
    facts = export_system(
        args.model,
        args.output,
        engine=args.format,
        precision=args.precision,
        search=search,
        lines=lines,
        shortlist=shortlist,
    )
    write_out(f"{args.output}: {facts['engine']}, {facts['precision']}. {parity_sentence(facts)}\n")
    write_out(shortlist_sentence(facts))


def check(args: argparse.Namespace) -> None:
    """Read a configuration as a run would, and say what it is for."""
    from retort.config.load import load_files

    config = load_files(args.files, {})
    systems = ", ".join(config.trained)
    files = ", ".join(map(str, args.files))
    write_out(f"{files}: no problem; results/{config.name} would have the systems {systems}\n")


def init(args: argparse.Namespace) -> None:
    """Look at texts, decide, write a configuration, and say what was seen and what a run will cost."""
    from retort.workflow import starting

    if len(args.texts) > 2:
        raise RetortError(f"{len(args.texts)} files; expected two, source and target, or one that holds both")
    name = args.name or args.texts[0].name.split(".")[0]
    output = args.output or Path(f"{name}.yaml")
    if output.exists():
        raise RetortError(f"{output}: is there already, and is never overwritten; name another by --output")
    train = starting.texts_of(args.texts)
    look = starting.look_at(train)
    write_out("".join(f"{line}\n" for line in look.lines()))
    choice = starting.decide(look, starting.preset_named(args.preset))
    starting.written(output, starting.configuration(name, train, look=look, choice=choice, preset=args.preset))
    from retort.workflow.estimate import cost_line

    write_out(f"{output}: written, with the reasons of its values. {cost_line(look, choice)}.\n")
    write_out(f"Now: retort run {output}\n")


def run(args: argparse.Namespace) -> None:
    """Replace this process by snakemake; what is given after the configuration is passed on."""
    root = Path(__file__).resolve().parents[1]
    if not (root / "Snakefile").is_file():
        raise RetortError(f"{root}: no Snakefile; retort run needs a checkout of Retort, installed with make run")
    if not args.configuration.is_file():
        raise RetortError(f"{args.configuration}: no such file; expected a configuration, as retort init writes it")
    chosen = ("-c", "--cores", "-j", "--jobs", "--profile")
    cores = [] if any(given.startswith(chosen) for given in args.arguments) else ["--cores", "all"]
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), *cores, *args.arguments]
    os.execv(sys.executable, [*command, "--configfile", str(args.configuration)])


def why(args: argparse.Namespace) -> None:
    """Say why a result would be made again."""
    from retort.workflow import why

    answer = why.why(args.result, args.configfile)
    write_out(f"{answer.json() if args.json else answer.text()}\n")


def _reader(lines: IO[bytes], name: str) -> tuple[Callable[[], bytes], Callable[[], bool]]:
    """How to read the next bytes of a plain or compressed file or of a pipe, and whether more can be read at once."""
    from retort.data.compression import UNREADABLE, compression_of, decompressed

    number = lines.fileno()

    def checked(read: Callable[..., bytes], *arguments: int) -> bytes:
        try:
            return read(number, *arguments)
        except OSError as error:
            raise RetortError(f"{name}: cannot be read ({error.strerror}); expected lines of text") from None

    def plain() -> bytes:
        return checked(os.read, _BLOCK)

    if not lines.seekable():
        return plain, lambda: _more_waits(lines)
    if not compression_of(checked(os.pread, _BEGINNING, os.lseek(number, 0, os.SEEK_CUR))):
        return plain, lambda: _more_waits(lines)
    stream = decompressed(lines)

    def inside() -> bytes:
        try:
            return stream.read(_BLOCK)  # type: ignore[no-any-return]
        except UNREADABLE as error:
            raise RetortError(f"{name}: cannot be read: {error}; expected a whole compressed file") from None

    return inside, lambda: True


def _batches(read: Callable[[], bytes], more_waits: Callable[[], bool], size: int, name: str) -> Iterator[list[str]]:
    """Decoded lines in lists of at most ``size``; a pause of the writer ends a batch early."""
    from retort.data.lines import LineSplitter

    waiting: list[str] = []
    splitter, number, first = LineSplitter(name), 0, True
    while block := read():
        if first:
            _check_beginning(block, name)
            first = False
        whole = splitter.whole(block)
        for raw in [] if whole is None else whole.split(b"\n"):
            number += 1
            waiting.append(_decoded(raw, name, number))
        while len(waiting) >= size or (waiting and not more_waits()):
            yield waiting[:size]
            waiting = waiting[size:]
    if rest := splitter.rest():
        waiting.append(_decoded(rest, name, number + 1))
    for start in range(0, len(waiting), size):
        yield waiting[start : start + size]


def _check_beginning(block: bytes, name: str) -> None:
    """Warns about text that is not what its lines say. Raises RetortError for what is no text."""
    from retort.corpus.appearance import BEGINNING, is_utf16, suspicions
    from retort.data.compression import compression_of

    if is_utf16(block):
        raise RetortError(f"{name}: UTF-16 by its first two bytes; expected UTF-8: convert it first")
    if found := compression_of(block):
        raise RetortError(f"{name}: compressed with {found.name}; decompress it, or name the file by --input")
    for suspicion in suspicions(block[:BEGINNING]):
        complain(f"warning: retort: {name}: {suspicion}")


def _decoded(raw: bytes, name: str, number: int) -> str:
    """A line as the corpus stage reads it: no byte order mark at the start of the text, no white space at its edges."""
    if number == 1:
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        return raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise RetortError(f"{name}: line {number}: byte {error.start} is not valid UTF-8") from None


def _more_waits(lines: IO[bytes]) -> bool:
    """Whether the input has more to read at once; the end of a file counts, and ends the loop."""
    return bool(select.select([lines], [], [], 0)[0])


if __name__ == "__main__":
    main()
