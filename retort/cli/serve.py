"""``retort serve``: a system behind HTTP."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from retort.cli.searches import add_batch_size, add_search, chosen_search
from retort.data.streams import complain, write_out
from retort.workflow.arguments import count, threads

PORT = 8080
SECONDS_TO_FINISH = 8
"""What has begun may take so long when the server is asked to end; container engines kill it after 10 seconds."""
SECONDS_TO_NOTICE = 0.1
"""So long after a signal the server listens at most."""
STATUSES = {signal.SIGINT: 130, signal.SIGTERM: 0}
"""Exit statuses of the signals that end the server."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = commands.add_parser("serve", help="translate over HTTP")
    serve.add_argument("model", type=Path, help="directory of an exported system or of a trained checkpoint")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine)")
    serve.add_argument("--port", type=int, default=PORT, help=f"default {PORT}; 0: any that is free")
    add_search(serve)
    add_batch_size(serve, "texts of a request, or their sentences,")
    serve.add_argument("--threads", type=threads, default=1, help="of each request (default 1)")
    serve.add_argument("--at-once", type=threads, default=1, help="requests decoded at the same time (default 1)")
    serve.add_argument("--max-bytes", type=count, default=1_000_000, help="size of a request (default 1000000)")
    serve.add_argument(
        "--max-texts", type=count, default=1_000, help="texts, or their sentences, per request (default 1000)"
    )
    serve.add_argument("--device", choices=["cpu", "cuda"], help="of a checkpoint; default: a GPU if there is one")
    serve.set_defaults(call=run)


def run(args: argparse.Namespace) -> None:
    """Serve until an interrupt, or a signal to end; a second one ends the process at once."""
    from retort.runtime.opening import open_system
    from retort.runtime.translator import Translator
    from retort.serving.server import PATH, Limits, Server

    _at_signals(sys.exit)
    system = open_system(args.model, chosen_search(args), args.threads, device=args.device, at_once=args.at_once)
    system.batch_size = args.batch_size or system.batch_size
    limits = Limits(args.max_bytes, args.max_texts, args.at_once)
    with Server(args.host, args.port, Translator(system), limits) as server:
        _at_signals(server.ask_to_end)
        write_out(f"{args.model}: {system.engine}, {system.precision}; POST {server.address}{PATH}\n")
        try:
            server.serve_forever(SECONDS_TO_NOTICE)
        except SystemExit as end:
            if not server.finish(SECONDS_TO_FINISH):
                complain(
                    f"warning: retort: requests were not answered within {SECONDS_TO_FINISH} seconds, and are lost"
                )
                _exit(int(end.code or 0))
            raise


def _at_signals(end: Callable[[int], None]) -> None:
    """What the first signal does, with the exit status. A second one ends the process at once."""

    def first(number: int, _frame: object) -> None:
        status = STATUSES[signal.Signals(number)]
        for each in STATUSES:
            signal.signal(each, lambda *_: _exit(status))
        end(status)

    for number in STATUSES:
        # a shell has what it runs in the background ignore interrupts
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, first)


def _exit(status: int) -> NoReturn:
    """End at once: the interpreter crashes if it ends in good order while threads are in an engine. Nothing is left to
    be flushed, since every line is when it is written."""
    os._exit(status)
