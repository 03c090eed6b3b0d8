"""Blocks of slots from left to right, or all slots at once: the best token in each (BANG).

Shape letters: b sources, r sources still open, p slots of a block, t slots of an output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retort.data.vocabulary import BOS, EOS
from retort.runtime.names import DECODER, ENCODER, LENGTHS, LOGITS, MEMORY, SLOTS, TOKENS
from retort.runtime.onnx_engine import Graphs
from retort.runtime.search.tokens import output_limit, text_of, without_repeats
from retort.runtime.system import Decoded


def search(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[Decoded]:
    """One pass per block; the first eos after any text ends an output."""
    outputs, lengths = graphs.encoded(ENCODER, sources)
    longest = graphs.max_length
    if options["max_tokens"] is not None:
        longest = min(longest, options["max_tokens"] + 1)
    limit_b = np.array([output_limit(len(tokens), options["max_ratio"], longest) for tokens in sources])
    # bundles from before token_bonus do not have it
    tokens_bt, passes_b = fill(
        graphs,
        outputs[MEMORY],
        lengths=lengths,
        limit_b=limit_b,
        block=options["block"],
        token_bonus=options.get("token_bonus", 0.0),
    )
    decoded = []
    for tokens, limit, passes in zip(tokens_bt, limit_b.tolist(), passes_b.tolist(), strict=True):
        end = first_end(tokens, limit)
        output = tokens[:end].tolist()
        if options["collapse"]:
            output = without_repeats(output)
        decoded.append(Decoded(text_of(output), bool(tokens[end] != EOS), passes))
    return decoded


def fill(
    graphs: Graphs,
    memory_bmd: np.ndarray,
    lengths: np.ndarray,
    limit_b: np.ndarray,
    block: int | None,
    token_bonus: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [b, t], eos after what was decoded, and the passes [b]."""
    eos = int(graphs.tokens.searchsorted(EOS))
    b, slots = len(limit_b), int(limit_b.max()) + 1
    block = min(block or slots, slots)
    # bos, and then the slots
    tokens_bt = np.full((b, slots + 1), EOS, np.int64)
    tokens_bt[:, 0] = BOS
    passes_b = np.zeros(b, np.int64)
    open_r = np.arange(b)
    for start in range(0, slots, block):
        stop = min(start + block, slots)
        inputs = {
            MEMORY: memory_bmd[open_r],
            LENGTHS: lengths[open_r],
            TOKENS: tokens_bt[open_r, : start + 1],
            SLOTS: np.array([stop - start]),
        }
        logits = graphs.run(DECODER, inputs)[LOGITS]
        graphs.forbid_unknown(logits)
        logits[..., eos] -= np.float32(token_bonus)
        tokens_bt[open_r, start + 1 : stop + 1] = graphs.tokens[logits.argmax(2)]
        passes_b[open_r] += 1
        ends = [first_end(tokens_bt[i, 1 : stop + 1], int(limit_b[i])) for i in open_r]
        open_r = open_r[np.array(ends) >= stop]
        if not len(open_r):
            break
    return tokens_bt[:, 1:], passes_b


def first_end(tokens: np.ndarray, limit: int) -> int:
    """Place of the first eos with text before it; the limit where there is none up to there."""
    ends = np.flatnonzero((tokens == EOS) & ((tokens != EOS).cumsum() > 0))
    return min(int(ends[0]), limit) if len(ends) else limit
