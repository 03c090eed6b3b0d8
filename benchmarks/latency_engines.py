"""Latency at batch size 1 in the engines that users deploy: ONNX Runtime for students, CTranslate2 for their rivals.

    python benchmarks/latency_engines.py --sentences 60

Weights are random (said in the output), sizes are those of a base Transformer with a vocabulary of 8,000 pieces, and
lengths those of image captions: 6 to 30 source tokens, 14 in the mean. Autoregressive models are made to generate as
many tokens as the source has, and the end of the sentence; a model that predicts the length predicts that one.
Everything runs on one thread. Contestants take turns, so that a busy machine slows all of them; what is compared is the
processor's time, because that of the clock says little on a machine that others use. A turn is one sentence, so that
each contestant finds the others' weights in the processor's caches; ``--turn 20`` lets it find its own there from the
second sentence on, as a server of one model does. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import ctranslate2
import numpy as np
import torch

from retort import config
from retort.data.batches import Ragged
from retort.data.vocabulary import FORBIDDEN, SPECIAL_IDS, UNK
from retort.export.shortlist import Shortlist
from retort.models.base import EncoderDecoder
from retort.models.build import build_model
from retort.runtime.onnx_engine import Graphs
from retort.runtime.timing import processor_name
from retort.search.base import run_search

Decode = Callable[[list[int]], Any]
"""Decodes one sentence of source ids."""

CTC, DAG, VANILLA = config.Ctc(name="ctc"), config.Dag(name="dag"), config.Vanilla(name="vanilla")
AUTOREGRESSIVE = config.Autoregressive(name="autoregressive")
STUDENTS = {
    "ctc": (CTC, config.CtcCollapse(kind="ctc_collapse")),
    "dag": (DAG, config.DagPath(kind="dag_path")),
    "vanilla": (VANILLA, config.Argmax(kind="argmax")),
}
RIVALS = {
    "CTranslate2 6-6 beam 5": (6, 6, 5),
    "CTranslate2 6-6 greedy": (6, 6, 1),
    "CTranslate2 12-1 greedy": (12, 1, 1),
}
BEAM, SHALLOW = "CTranslate2 6-6 beam 5", "CTranslate2 12-1 greedy"
"""What the others are compared with."""
SHORTLIST = ", shortlist"
"""End of the names of contestants with one."""


class Pieces:
    """A vocabulary of numbers, and of the special pieces that CTranslate2 knows by their names."""

    joint = True

    def __init__(self, size: int) -> None:
        self.source_size = self.target_size = size
        special = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", "<blank>"]
        self.source_pieces = self.target_pieces = special + [f"p{i}" for i in range(len(special), size)]


class Size(NamedTuple):
    """Widths of a model, and its pieces."""

    d_model: int
    heads: int
    ffn: int
    pieces: int


def random_model(objective: Any, size: Size, encoder_layers: int, decoder_layers: int) -> EncoderDecoder:
    """A model of these depths; a predicted length is that of the source."""
    shape = config.Model(
        d_model=size.d_model,
        heads=size.heads,
        ffn=size.ffn,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
    )
    torch.manual_seed(1)
    model = build_model(objective, shape, Pieces(size.pieces)).eval()  # type: ignore[arg-type]
    if objective.name == "vanilla":
        predictor: Any = model.length
        torch.nn.init.zeros_(predictor.weight)
        predictor.bias.data[predictor.out_features // 2] = 1.0
    return model


def random_shortlist(size: Size) -> Shortlist:
    """30 random candidates of each source piece and 200 of all of them: as large as those of real text."""
    generator = np.random.default_rng(2)
    frequent, *by_source = (
        np.sort(generator.choice(np.arange(SPECIAL_IDS, size.pieces), count, replace=False))
        for count in [200] + [30] * size.pieces
    )
    return Shortlist(np.union1d(frequent, [UNK]), by_source)


def in_onnx(
    directory: Path, objective: Any, size: Size, depths: tuple[int, int], search: Any, shortlist: Shortlist | None
) -> Decode:
    """A student in ONNX Runtime, int8."""
    model, pieces = random_model(objective, size, *depths), Pieces(size.pieces)
    directory.mkdir()
    writing = import_module("retort.export.onnx")
    facts = writing.write(model, pieces, directory, "int8", shortlist)
    graphs = Graphs(directory, facts | {"max_length": 256, "target_size": size.pieces})
    decode, options = import_module(f"retort.runtime.search.{search.kind}").search, search.model_dump()
    return lambda tokens: decode(graphs.for_sources([tokens]), [tokens], options)


def in_ctranslate2(
    directory: Path, size: Size, depths: tuple[int, int], beam_size: int, shortlist: Shortlist | None
) -> Decode:
    """An autoregressive model in CTranslate2, int8, which generates as many tokens as the source has."""
    pieces = Pieces(size.pieces)
    if not directory.exists():
        directory.mkdir()
        model = random_model(AUTOREGRESSIVE, size, *depths)
        writing = import_module("retort.export.ctranslate2")
        writing.write(model, pieces, directory, "int8", shortlist)
    translator = ctranslate2.Translator(str(directory), device="cpu", inter_threads=1, intra_threads=1)
    never = [[pieces.target_pieces[i]] for i in FORBIDDEN]

    def decode(tokens: list[int]) -> Any:
        return translator.translate_batch(
            [[pieces.source_pieces[i] for i in tokens]],
            beam_size=beam_size,
            # with the end of the sentence, which takes a step as well
            min_decoding_length=len(tokens) + 1,
            max_decoding_length=len(tokens) + 1,
            suppress_sequences=never,
            use_vmap=shortlist is not None,
        )

    return decode


def in_torch(size: Size, depths: tuple[int, int]) -> Decode:
    """CTC in eager torch, float32."""
    objective, search = STUDENTS["ctc"]
    model = random_model(objective, size, *depths)
    return lambda tokens: run_search(model, Ragged.from_lists([tokens]).padded(np.arange(1), 1), search)


def seconds(decode: Decode, tokens: list[int]) -> tuple[float, float]:
    """Elapsed and processor seconds of one sentence."""
    elapsed, processor = time.perf_counter(), time.process_time()
    decode(tokens)
    return time.perf_counter() - elapsed, time.process_time() - processor


def sentences(count: int, pieces: int) -> list[list[int]]:
    """Random tokens; lengths are 6 to 30, 14 in the mean."""
    generator = np.random.default_rng(1)
    lengths = np.clip(np.rint(generator.gamma(8, 14 / 8, count)), 6, 30).astype(int)
    return [generator.integers(SPECIAL_IDS, pieces, length).tolist() for length in lengths]


def contestants(
    directory: Path,
    size: Size,
    names: list[str],
    depths: list[tuple[int, int]],
    slots: list[float],
    autoregressive: list[tuple[int, int]],
    with_shortlists: bool,
) -> dict[str, Decode]:
    """The rivals, autoregressive students, the others at each depth, CTC with each number of slots per source token,
    all of them with a shortlist too if asked, and one student in torch."""
    left_to_right = RIVALS | {f"CTranslate2 {e}-{d} greedy": (e, d, 1) for e, d in autoregressive}
    students: dict[str, tuple[Any, Any]] = {name: STUDENTS[name] for name in names}
    if slots:
        ctc, search = students.pop("ctc")
        students |= {f"ctc, {u:g} slots": (ctc.model_copy(update={"upsampling": u}), search) for u in slots}
    decoders: dict[str, Decode] = {}
    lists = {"": None, SHORTLIST: random_shortlist(size)} if with_shortlists else {"": None}
    for number, (suffix, shortlist) in enumerate(lists.items()):
        for rival, (encoder, decoder, beam_size) in left_to_right.items():
            path = directory / f"rival-{encoder}-{decoder}-{number}"
            decoders[rival + suffix] = in_ctranslate2(
                path, size, depths=(encoder, decoder), beam_size=beam_size, shortlist=shortlist
            )
        for name, (objective, search) in students.items():
            for both in depths:
                label = f"ONNX int8 {name} {both[0]}+{both[1]}{suffix}"
                path = directory / f"student-{len(decoders)}"
                decoders[label] = in_onnx(path, objective, size, depths=both, search=search, shortlist=shortlist)
    decoders["torch float32 ctc 6+6"] = in_torch(size, (6, 6))
    return decoders


def rows_of(times: dict[str, list[tuple[float, float]]]) -> list[dict[str, Any]]:
    """Medians, and median ratios of processor time per sentence; with a shortlist, to the rivals with one."""
    rows = []
    for name, own in times.items():
        row: dict[str, Any] = {"system": name}
        for column, key in enumerate(("elapsed_ms", "processor_ms")):
            row[key] = round(1000 * statistics.median(pair[column] for pair in own), 3)
        row["processor_ms_p95"] = round(1000 * float(np.quantile([processor for _, processor in own], 0.95)), 3)
        for key, rival in (("below_beam_5", BEAM), ("below_12_1", SHALLOW)):
            other = times[rival + SHORTLIST if name.endswith(SHORTLIST) else rival]
            row[key] = round(statistics.median(r[1] / o[1] for r, o in zip(other, own, strict=True)), 2)
        rows.append(row)
    return rows


def both_depths(text: str) -> tuple[int, int]:
    """Encoder and decoder layers of ``6+2``."""
    encoder, decoder = text.split("+")
    return int(encoder), int(decoder)


def load() -> list[float]:
    """The machine's load over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def main() -> None:
    """Build, time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--turn", type=int, default=1, help="sentences in a row of each contestant")
    parser.add_argument("--students", nargs="+", choices=list(STUDENTS), default=["ctc"])
    parser.add_argument("--depths", nargs="+", default=["6+6", "12+1", "6+2"], help="encoder+decoder layers")
    parser.add_argument("--slots", nargs="+", type=float, default=[], help="CTC's slots per source token; default: 2")
    parser.add_argument("--autoregressive", nargs="+", default=[], help="depths of students that decode greedily")
    parser.add_argument("--shortlists", action="store_true", help="time all with a shortlist, too")
    parser.add_argument("--d-model", type=int, default=512)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--ffn", type=int, default=2048)
    parser.add_argument("--pieces", type=int, default=8000)
    args = parser.parse_args()
    if args.slots and "ctc" not in args.students:
        parser.error("--slots are those of ctc, which is not among --students")
    torch.set_num_threads(1)
    size = Size(args.d_model, args.heads, ffn=args.ffn, pieces=args.pieces)
    texts = sentences(args.sentences, size.pieces)
    before = load()
    times: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        decoders = contestants(
            Path(name),
            size,
            names=args.students,
            depths=[both_depths(text) for text in args.depths],
            slots=args.slots,
            autoregressive=[both_depths(text) for text in args.autoregressive],
            with_shortlists=args.shortlists,
        )
        for decode in decoders.values():
            for tokens in texts[:3]:
                decode(tokens)
        rounds = texts * args.rounds
        for start in range(0, len(rounds), args.turn):
            for label, decode in decoders.items():
                times.setdefault(label, []).extend(seconds(decode, t) for t in rounds[start : start + args.turn])
    rows = rows_of(times)
    machine: dict[str, Any] = {
        "processor": processor_name(),
        "cpus": os.cpu_count(),
        "load_before": before,
        "load_after": load(),
    }
    print(
        f"random weights; one thread; {machine['processor']}; load {before[0]} before, {machine['load_after'][0]} after"
    )
    print(f"{'system':<36}{'processor ms':>13}{'p95':>9}{'elapsed ms':>12}{'x below beam 5':>16}{'x below 12-1':>14}")
    for row in rows:
        print(
            f"{row['system']:<36}{row['processor_ms']:>13.2f}{row['processor_ms_p95']:>9.2f}{row['elapsed_ms']:>12.2f}"
            f"{row['below_beam_5']:>16.2f}{row['below_12_1']:>14.2f}"
        )
    lengths = statistics.mean(map(len, texts))
    facts = {
        "weights": "random",
        "sentences": len(texts),
        "mean_source_tokens": round(lengths, 2),
        "size": size._asdict(),
    }
    print(
        json.dumps(facts | {"rounds": args.rounds, "turn": args.turn, "threads": 1, "machine": machine, "rows": rows})
    )


if __name__ == "__main__":
    main()
