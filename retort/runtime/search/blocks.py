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
from retort.runtime.search.slots import normalisers
from retort.runtime.system import Decoded, Scored
from retort.search.tokens import first_of_repeats, of_text, output_limit, text_of, without_repeats

OUTPUTS_KEY = None


def search(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[Decoded]:
    """One pass per block; the first eos after any text ends an output."""
    return [ranked[0].decoded for ranked in _decoded(graphs, sources, options, scored=False)]


def scored(graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any]) -> list[list[Scored]]:
    """The summed log-probability, eos and merged repeats included, less ``token_bonus`` for eos.

    The graph leaves out pad, bos, mask and blank, which torch counts among the alternatives: a model that gives them
    any probability has lower scores there.
    """
    return _decoded(graphs, sources, options, scored=True)


def _decoded(
    graphs: Graphs, sources: Sequence[Sequence[int]], options: Mapping[str, Any], scored: bool
) -> list[list[Scored]]:
    """Without ``scored``, the log-probabilities are not computed, and 0."""
    outputs, lengths = graphs.encoded(ENCODER, sources)
    longest = graphs.max_length
    if options["max_tokens"] is not None:
        longest = min(longest, options["max_tokens"] + 1)
    limit_b = np.array([output_limit(len(tokens), options["max_ratio"], longest) for tokens in sources])
    # bundles from before token_bonus do not have it
    tokens_bt, passes_b, log_probs_bt = fill(
        graphs,
        outputs[MEMORY],
        lengths=lengths,
        limit_b=limit_b,
        block=options["block"],
        token_bonus=options.get("token_bonus", 0.0),
        scored=scored,
    )
    found = []
    for tokens, log_probs, limit, passes in zip(
        tokens_bt, log_probs_bt, limit_b.tolist(), passes_b.tolist(), strict=True
    ):
        end = first_end(tokens, limit)
        output, values = tokens[:end].tolist(), log_probs[:end].tolist()
        if options["collapse"]:
            output, values = without_repeats(output), first_of_repeats(output, values)
        decoded = Decoded(text_of(output), bool(tokens[end] != EOS), passes)
        found.append([Scored(decoded, float(log_probs[: end + 1].sum()), of_text(output, values))])
    return found


def fill(
    graphs: Graphs,
    memory_bmd: np.ndarray,
    lengths: np.ndarray,
    limit_b: np.ndarray,
    block: int | None,
    token_bonus: float,
    scored: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens [b, t], eos after what was decoded, the passes [b], and if ``scored`` the log-probabilities [b, t]."""
    eos = int(graphs.tokens.searchsorted(EOS))
    b, slots = len(limit_b), int(limit_b.max()) + 1
    block = min(block or slots, slots)
    # bos, and then the slots
    tokens_bt = np.full((b, slots + 1), EOS, np.int64)
    tokens_bt[:, 0] = BOS
    passes_b = np.zeros(b, np.int64)
    log_probs_bt = np.zeros((b, slots), np.float32)
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
        normaliser_rp = normalisers(logits) if scored else None
        graphs.forbid_unknown(logits)
        logits[..., eos] -= np.float32(token_bonus)
        best_rp = logits.argmax(2)
        tokens_bt[open_r, start + 1 : stop + 1] = graphs.tokens[best_rp]
        if normaliser_rp is not None:
            chosen_rp = np.take_along_axis(logits, best_rp[:, :, None], 2)[:, :, 0]
            log_probs_bt[open_r, start:stop] = chosen_rp - normaliser_rp
        passes_b[open_r] += 1
        ends = [first_end(tokens_bt[i, 1 : stop + 1], int(limit_b[i])) for i in open_r]
        open_r = open_r[np.array(ends) >= stop]
        if not len(open_r):
            break
    return tokens_bt[:, 1:], passes_b, log_probs_bt


def first_end(tokens: np.ndarray, limit: int) -> int:
    """Place of the first eos with text before it; the limit where there is none up to there."""
    ends = np.flatnonzero((tokens == EOS) & ((tokens != EOS).cumsum() > 0))
    return min(int(ends[0]), limit) if len(ends) else limit
