"""Cross entropy with the k most probable tokens of a distribution and one event for all other tokens.

Let K be the teacher's k best tokens, p their probabilities, and r = 1 - sum p. The loss of a student's q is
- sum_K p_v log q_v - r log(1 - sum_K q_v) at each position.

It is the cross entropy of the two distributions after all tokens outside K are merged into one event. It never exceeds
that of the whole distributions. It is least where the student gives the k tokens the teacher's probabilities; the
student is free to distribute the rest. If the k probabilities were normalised to sum to one instead, the student would
learn to be more confident than its teacher.

Shape letters: n positions in the loss, c positions of a chunk, k tokens kept, d width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from retort.data.teacher_labels import TopK
from retort.losses.chunked_projection import projected_loss, softmax_and_normaliser
from retort.losses.soft_cross_entropy import soft_cross_entropy, softmax_distributions
from retort.models.kernels import chunk_size, linear

MIN_REST = 1e-30
"""Lower bound for the probability of the rest, so that its logarithm is finite."""


def top_k_cross_entropy(states_nd: Tensor, weight_vd: Tensor, teacher: TopK, weights_n: Tensor | None = None) -> Tensor:
    """Weighted sum over positions: nats, float32.

    ``weights_n`` are float32; None: all are 1. Differentiable in states and weight.
    """

    def score(rows: slice, logits_cv: Tensor) -> tuple[Tensor, Tensor]:
        tokens_ck = teacher.tokens_nk[rows]
        theirs_ck = teacher.probabilities_nk[rows]
        probabilities_cv, normaliser_c = softmax_and_normaliser(logits_cv)
        ours_ck = probabilities_cv.gather(1, tokens_ck)
        # summing the others is more exact than 1 - sum of the k best
        probabilities_cv.scatter_(1, tokens_ck, 0.0)
        rest_c = probabilities_cv.sum(-1).clamp_(min=MIN_REST)
        loss_c = (theirs_ck * (normaliser_c[:, None] - logits_cv.gather(1, tokens_ck))).sum(1)
        loss_c -= teacher.rest_n[rows] * rest_c.log()
        probabilities_cv.mul_((1 - teacher.rest_n[rows] / rest_c)[:, None])
        return loss_c, probabilities_cv.scatter_(1, tokens_ck, ours_ck - theirs_ck)

    return projected_loss(states_nd, weight_vd, score=score, weights_n=weights_n)


def teacher_cross_entropy(
    states_nd: Tensor, their_weight_vd: Tensor, top_k: int | None
) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The cross entropy with the teacher's distributions: whole ones, or of the ``top_k`` most probable tokens.

    Returns a function of a student's states, its projection, and weights or None.
    """
    if top_k is None:
        whole = softmax_distributions(states_nd, their_weight_vd)
        return lambda states_nd, weight_vd, weights_n: soft_cross_entropy(
            states_nd, weight_vd, distributions=whole, weights_n=weights_n
        )
    best = top_k_distributions(states_nd, their_weight_vd, top_k)
    return lambda states_nd, weight_vd, weights_n: top_k_cross_entropy(
        states_nd, weight_vd, teacher=best, weights_n=weights_n
    )


def top_k_distributions(states_nd: Tensor, weight_vd: Tensor, k: int) -> TopK:
    """The ``k`` most probable tokens of softmax(states weight')."""
    chunks = [top for _, top in top_k_chunks(states_nd, weight_vd, k)]
    return TopK(
        torch.cat([top.tokens_nk for top in chunks]),
        torch.cat([top.probabilities_nk for top in chunks]),
        torch.cat([top.rest_n for top in chunks]),
    )


@torch.no_grad()
def top_k_chunks(states_nd: Tensor, weight_vd: Tensor, k: int) -> Iterator[tuple[Tensor, TopK]]:
    """The same chunk by chunk, each chunk with its whole distributions [c, v], float32."""
    for states_cd in states_nd.split(chunk_size(states_nd.device)):
        probabilities_cv = torch.softmax(linear(states_cd, weight_vd).float(), -1)
        best = probabilities_cv.topk(min(k, probabilities_cv.shape[1]), 1)
        rest_c = (1 - best.values.sum(1)).clamp_(min=0.0)
        if k >= probabilities_cv.shape[1]:
            rest_c.zero_()
        yield probabilities_cv, TopK(best.indices, best.values, rest_c)
