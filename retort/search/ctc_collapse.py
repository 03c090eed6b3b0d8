"""Best-path decoding of CTC (Graves et al. 2006): best token in each slot, repeats merged, blanks removed.

Shape letters: b sources, t slots, v vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import CtcCollapse
from retort.data.vocabulary import BLANK, PAD, UNK
from retort.models.parallel import ParallelModel
from retort.search.base import Hypothesis, one_pass_outputs


@torch.inference_mode()
def search(model: ParallelModel, source_bs: Tensor, options: CtcCollapse) -> list[list[Hypothesis]]:
    """One pass; the score is the log-probability of the best path, in nats, less ``blank_penalty`` for each blank."""
    memory_bsd, memory_bias = model.encode(source_bs)
    states_btd, slots_b = model.decode_upsampled(source_bs, memory_bsd, memory_bias)
    inside_bt = torch.arange(states_btd.shape[1], device=source_bs.device) < slots_b[:, None]
    logits = model.logits(states_btd[inside_bt]).float()
    logits[:, model.forbidden] = float("-inf")
    log_probs = torch.log_softmax(logits, -1)
    if not options.allow_unknown:
        log_probs[:, UNK] = float("-inf")
    log_probs[:, BLANK] -= options.blank_penalty
    best, token = log_probs.max(-1)
    tokens_bt = torch.full(inside_bt.shape, PAD, device=source_bs.device)
    tokens_bt[inside_bt] = token
    score_bt = torch.zeros(inside_bt.shape, device=source_bs.device)
    score_bt[inside_bt] = best
    repeated_bt = torch.zeros_like(inside_bt)
    repeated_bt[:, 1:] = tokens_bt[:, 1:] == tokens_bt[:, :-1]
    tokens_bt = tokens_bt.masked_fill(repeated_bt, PAD)
    return one_pass_outputs(tokens_bt, score_bt.sum(1), score_bt)
