"""Cross entropy with the most probable tokens of a distribution, all other tokens counting as one.

With the teacher's k best tokens K, their probabilities p and the rest r = 1 - sum p, the loss of a student's q at a
position is - sum_K p_v log q_v - r log(1 - sum_K q_v): the cross entropy of the two distributions once all tokens but
K are one event. It never exceeds that of the whole distributions, and is least where the student gives the k tokens
the teacher's own probabilities; how the rest is shared out is left to the student. Made to sum to one, the k
probabilities would teach the student to be surer than its teacher.

Shape letters: n positions (only those that count), c positions of a chunk, k tokens kept, d width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from retort.data.teacher_labels import TopK
from retort.losses.projected import projected_loss, softmax_and_normaliser
from retort.losses.soft_cross_entropy import soft_cross_entropy, softmax_distributions
from retort.models.kernels import chunk_size, linear

LEAST = 1e-30
"""Probability of the rest whose logarithm is finite."""


def top_k_cross_entropy(states_nd: Tensor, weight_vd: Tensor, teacher: TopK, counts_n: Tensor | None = None) -> Tensor:
    """Sum over positions, in nats, float32, each position counting ``counts_n`` (float32), or 1; differentiable in
    states and weight."""

    def score(rows: slice, logits_cv: Tensor) -> tuple[Tensor, Tensor]:
        tokens_ck, theirs_ck = teacher.tokens_nk[rows], teacher.probabilities_nk[rows]
        probabilities_cv, normaliser_c = softmax_and_normaliser(logits_cv)
        ours_ck = probabilities_cv.gather(1, tokens_ck)
        # a sum of the others, because 1 - sum of the k best loses small numbers
        probabilities_cv.scatter_(1, tokens_ck, 0.0)
        rest_c = probabilities_cv.sum(-1).clamp_(min=LEAST)
        loss_c = (theirs_ck * (normaliser_c[:, None] - logits_cv.gather(1, tokens_ck))).sum(1)
        loss_c -= teacher.rest_n[rows] * rest_c.log()
        probabilities_cv.mul_((1 - teacher.rest_n[rows] / rest_c)[:, None])
        return loss_c, probabilities_cv.scatter_(1, tokens_ck, ours_ck - theirs_ck)

    return projected_loss(states_nd, weight_vd, score, counts_n)


def teacher_cross_entropy(
    states_nd: Tensor, their_weight_vd: Tensor, top_k: int | None
) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The loss, a function of a student's states, its projection and counts or None, with what the teacher's states
    say: its whole distributions, or the ``top_k`` most probable tokens."""
    if top_k is None:
        whole = softmax_distributions(states_nd, their_weight_vd)
        return lambda states_nd, weight_vd, counts_n: soft_cross_entropy(states_nd, weight_vd, whole, counts_n)
    best = top_k_distributions(states_nd, their_weight_vd, top_k)
    return lambda states_nd, weight_vd, counts_n: top_k_cross_entropy(states_nd, weight_vd, best, counts_n)


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
    """The same chunk by chunk, each with the whole distributions [c, v], float32."""
    for states_cd in states_nd.split(chunk_size(states_nd.device)):
        probabilities_cv = torch.softmax(linear(states_cd, weight_vd).float(), -1)
        best = probabilities_cv.topk(min(k, probabilities_cv.shape[1]), 1)
        rest_c = (1 - best.values.sum(1)).clamp_(min=0.0)
        if k >= probabilities_cv.shape[1]:
            rest_c.zero_()
        yield probabilities_cv, TopK(best.indices, best.values, rest_c)
