"""Beam search of an autoregressive checkpoint: Retort against CTranslate2 with the same weights.

    python benchmarks/beam_decoding.py --model results/multi30k-en-de/systems/teacher/seed1 \\
        --corpus results/multi30k-en-de/corpus/test.test_2016_flickr.parquet

First both decode in float32 without a length penalty, where they search for the same thing, and the outputs are
compared; where they differ, Retort's model scores both. Then the decoders are timed, without the segmentation of the
text, taking turns so that a busy machine slows all of them: each round gives a ratio, the median ratio is reported.
Both keep batches of --batch-tokens padded source tokens. Where length penalties count, each uses its own formula
(Retort: ((5 + n) / 6) ** alpha, CTranslate2: n ** alpha). Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retort.config import Beam
from retort.data.batches import Ragged, source_batches
from retort.data.parquet import read_table
from retort.data.tables import CORPUS
from retort.data.vocabulary import EOS, FORBIDDEN, Vocabulary
from retort.export.exporting import export_system
from retort.losses.teacher_forcing import shifted_right
from retort.models.autoregressive import AutoregressiveModel
from retort.models.checkpoint import load_checkpoint
from retort.search.base import run_search
from retort.training.device import PRECISIONS, prepare_device

Decode = Callable[[], list[list[int]]]
"""Decodes everything; token ids of the best hypothesis of each sentence."""


def retort_decoder(model: AutoregressiveModel, source: list[list[int]], search: Beam, batch_tokens: int) -> Decode:
    """Retort's search."""
    ragged = Ragged.from_lists(source)

    def decode() -> list[list[int]]:
        found: list[list[int]] = [[] for _ in source]
        for rows, source_bs in source_batches(ragged, batch_tokens):
            for row, hypotheses in zip(rows, run_search(model, source_bs, search), strict=True):
                found[row] = hypotheses[0].tokens
        return found

    return decode


def ctranslate2_decoder(
    directory: Path,
    compute_type: str,
    source: list[list[int]],
    search: Beam,
    batch_tokens: int,
    max_length: int,
    threads: int,
) -> Decode:
    """CTranslate2's search over the exported model."""
    import ctranslate2

    vocabulary = Vocabulary.load(directory)
    source_pieces, target_pieces = vocabulary.source_pieces, vocabulary.target_pieces
    translator = ctranslate2.Translator(
        str(directory), device="cpu", compute_type=compute_type, inter_threads=1, intra_threads=threads
    )
    sentences = [[source_pieces[i] for i in sentence] for sentence in source]
    numbers = {piece: i for i, piece in enumerate(target_pieces)}

    def decode() -> list[list[int]]:
        results = translator.translate_batch(
            sentences,
            max_batch_size=batch_tokens,
            batch_type="tokens",
            beam_size=search.beam_size,
            length_penalty=search.length_penalty,
            max_decoding_length=max_length,
            suppress_sequences=[[target_pieces[i]] for i in FORBIDDEN],
        )
        return [[numbers[piece] for piece in result.hypotheses[0]] for result in results]

    return decode


@torch.inference_mode()
def log_probability(model: AutoregressiveModel, source: list[int], target: list[int]) -> float:
    """log P(target, eos | source) of a float32 model, in nats."""
    source_bs: Tensor = torch.tensor([[*source, EOS]])
    target_bt = torch.tensor([[*target, EOS]])
    log_probs_btv = torch.log_softmax(model.logits(model(source_bs, shifted_right(target_bt))), -1)
    return float(log_probs_btv.gather(2, target_bt[:, :, None]).sum())


def compare(
    model: AutoregressiveModel, source: list[list[int]], ours: list[list[int]], theirs: list[list[int]]
) -> dict[str, float | int]:
    """How many outputs are the same, and which of two different ones the model finds more probable."""
    gains = [
        log_probability(model, sentence, ours[i]) - log_probability(model, sentence, theirs[i])
        for i, sentence in enumerate(source)
        if ours[i] != theirs[i]
    ]
    return {
        "sentences": len(source),
        "identical": len(source) - len(gains),
        "retort_more_probable": sum(gain > 1e-3 for gain in gains),
        "ties": sum(abs(gain) <= 1e-3 for gain in gains),
        "ctranslate2_more_probable": sum(gain < -1e-3 for gain in gains),
    }


def seconds(decode: Decode) -> tuple[float, float]:
    """Elapsed and processor seconds of decoding everything once."""
    elapsed, processor = time.perf_counter(), time.process_time()
    decode()
    return time.perf_counter() - elapsed, time.process_time() - processor


def time_in_turns(decoders: dict[str, Decode], baseline: str, sentences: int, rounds: int) -> list[dict[str, object]]:
    """One row a decoder: median sentences a second and median, over rounds, of its speed over the baseline's."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in decoders}
    for decode in decoders.values():
        decode()
    for _ in range(rounds):
        for name, decode in decoders.items():
            times[name].append(seconds(decode))
    rows: list[dict[str, object]] = []
    for name, own in times.items():
        elapsed, processor = (
            statistics.median(base[i] / mine[i] for base, mine in zip(times[baseline], own, strict=True))
            for i in range(2)
        )
        rows.append(
            {
                "decoder": name,
                "sentences_per_second": round(sentences / statistics.median(e for e, _ in own), 1),
                "sentences_per_processor_second": round(sentences / statistics.median(p for _, p in own), 1),
                "ratio": round(elapsed, 2),
                "processor_ratio": round(processor, 2),
            }
        )
    return rows


def main() -> None:
    """Compare, time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="directory of an autoregressive checkpoint")
    parser.add_argument("--corpus", type=Path, required=True, help="corpus table whose sources are decoded")
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--beam-size", type=int, default=5)
    parser.add_argument("--length-penalty", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    device = prepare_device(args.threads)
    models = {}
    for precision, dtype in PRECISIONS.items():
        checkpoint = load_checkpoint(args.model, device, dtype)
        if not isinstance(checkpoint.model, AutoregressiveModel):
            raise SystemExit(f"{args.model}: not an autoregressive checkpoint")
        models[precision] = checkpoint.model
    texts = read_table(args.corpus, CORPUS, ["source"]).column("source").to_pylist()[: args.sentences]
    source = checkpoint.vocabulary.encode_source(texts)
    longest = models["float32"].config.max_length - 1
    result: dict[str, Any] = {"model": models["float32"].config.model_dump(), "threads": args.threads, "rows": []}
    print(f"{'alpha':>5}  {'decoder':<22}{'sentences/s':>12}{'ratio':>7}{'per CPU second':>16}{'ratio':>7}")
    with tempfile.TemporaryDirectory() as name:
        exported = Path(name) / "model"
        export_system(args.model, exported, "ctranslate2")
        for alpha in args.length_penalty:
            search = Beam(kind="beam", beam_size=args.beam_size, length_penalty=alpha)
            ours = {
                p: retort_decoder(m, source, search=search, batch_tokens=args.batch_tokens) for p, m in models.items()
            }
            theirs = {
                kind: ctranslate2_decoder(
                    exported,
                    kind,
                    source=source,
                    search=search,
                    batch_tokens=args.batch_tokens,
                    max_length=longest,
                    threads=args.threads,
                )
                for kind in ("float32", "int8")
            }
            if alpha == 0:
                result["equality"] = compare(
                    models["float32"], source, ours=ours["float32"](), theirs=theirs["float32"]()
                )
            decoders = {f"CTranslate2 {kind}": decode for kind, decode in theirs.items()}
            decoders |= {f"Retort {kind}": decode for kind, decode in ours.items()}
            for row in time_in_turns(decoders, "CTranslate2 float32", sentences=len(source), rounds=args.rounds):
                result["rows"] += [{"length_penalty": alpha, **row}]
                speeds = f"{row['sentences_per_second']:>12}{row['ratio']:>7}"
                speeds += f"{row['sentences_per_processor_second']:>16}{row['processor_ratio']:>7}"
                print(f"{alpha:>5}  {row['decoder']:<22}{speeds}", flush=True)
    print("without length penalty:", result.get("equality"))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
