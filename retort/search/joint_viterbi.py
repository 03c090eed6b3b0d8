"""Joint-Viterbi decoding of a directed acyclic graph (Shao et al. 2022).

Shape letters: b sources, t vertices, n tokens (bos first), i and j vertices of a transition.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import JointViterbi
from retort.losses.dag_paths import best_path, best_scores
from retort.models.dag import DagModel
from retort.search.base import Hypothesis, no_output, one_pass_outputs, output_limits
from retort.search.vertices import read_graph


@torch.inference_mode()
def search(model: DagModel, source_bs: Tensor, options: JointViterbi) -> list[list[Hypothesis]]:
    """One pass; the output maximises log P(path, tokens) / length ** beta, which is its score (nats)."""
    token_bt, log_prob_bt, log_transitions_bij, vertices_b = read_graph(model, source_bs, no_output(options))
    limits = output_limits(source_bs, options.max_ratio, model.config.max_length)
    # tokens are the text, bos and eos
    n = min(max(limits) + 2, log_prob_bt.shape[1])
    scores_nbt = best_scores(log_prob_bt.expand(n, -1, -1), log_transitions_bij)
    length_n = torch.arange(1, n, device=source_bs.device)
    final_bn = scores_nbt[1:].gather(2, (vertices_b - 1).expand(n - 1, -1)[:, :, None])[:, :, 0].t()
    final_bn = final_bn / length_n**options.beta
    too_long_bn = length_n > torch.tensor(limits, device=source_bs.device)[:, None] + 1
    score_b, best_b = final_bn.masked_fill(too_long_bn, float("-inf")).max(1)
    path_bn = best_path(scores_nbt, log_transitions_bij, vertices_b=vertices_b, length_b=best_b + 2)
    tokens_bn = token_bt.gather(1, path_bn)
    return one_pass_outputs(tokens_bn, score_b, log_prob_bt.gather(1, path_bn))
