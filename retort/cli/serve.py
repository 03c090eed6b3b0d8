"""``retort serve``: a system behind HTTP."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import NoReturn

from retort.cli.searches import add_search, chosen_search
from retort.data.streams import write_out
from retort.workflow.arguments import count, threads

PORT = 8080


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    serve = commands.add_parser("serve", help="translate over HTTP")
    serve.add_argument("model", type=Path, help="directory of an exported system or of a trained checkpoint")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine)")
    serve.add_argument("--port", type=int, default=PORT, help=f"default {PORT}; 0: any that is free")
    add_search(serve)
    serve.add_argument("--threads", type=threads, default=1, help="of each request (default 1)")
    serve.add_argument("--at-once", type=threads, default=1, help="requests decoded at the same time (default 1)")
    serve.add_argument("--max-bytes", type=count, default=1_000_000, help="size of a request (default 1000000)")
    serve.add_argument("--max-texts", type=count, default=1_000, help="texts per request (default 1000)")
    serve.add_argument("--device", choices=["cpu", "cuda"], help="of a checkpoint; default: a GPU if there is one")
    serve.set_defaults(call=run)


def run(args: argparse.Namespace) -> None:
    """Serve until an interrupt, or a signal to end."""
    from retort.runtime.opening import open_system
    from retort.runtime.translator import Translator
    from retort.serving.server import PATH, Limits, Server

    signal.signal(signal.SIGTERM, _end)
    system = open_system(args.model, chosen_search(args), args.threads, device=args.device)
    limits = Limits(args.max_bytes, args.max_texts, args.at_once)
    with Server(args.host, args.port, Translator(system), limits) as server:
        write_out(f"{args.model}: {system.engine}, {system.precision}; POST {server.address}{PATH}\n")
        server.serve_forever()


def _end(*_: object) -> NoReturn:
    sys.exit(0)
