"""Beam search with a key-value cache; sources leave the batch as they finish.

Shape letters: b sources still decoding, k beam, v vocabulary, r = b * k rows, t position, c candidates, e ends.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retort.config import Beam
from retort.data.vocabulary import BOS, EOS
from retort.models.autoregressive import AutoregressiveModel, Cache
from retort.search.base import Hypothesis, no_output, output_limits, restrict
from retort.search.tokens import length_penalty

GROUP = 16
"""Candidates per group, of which only the maximum is compared at first; a power of two."""


@torch.inference_mode()
def search(
    model: AutoregressiveModel, source_bs: Tensor, options: Beam, prefix_bt: Tensor | None = None
) -> list[list[Hypothesis]]:
    """The ``beam_size`` best finished hypotheses per source, by log P / ``length_penalty``.

    A source is finished when no open hypothesis can beat its worst finished one. All hypotheses begin with the source's
    prefix.
    """
    return _BeamSearch(model, source_bs, options=options, prefix_bt=prefix_bt).run()


def largest(x_bn: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Values and indices of the ``count`` largest of each row, in descending order.

    ``topk`` copies and partitions a whole row. Here it gets the maxima of groups of 16, and then the members of the
    ``count`` best groups, which include all of the largest.
    """
    n = x_bn.shape[1]
    groups = n // GROUP
    if groups <= count:
        return x_bn.topk(count, dim=1)
    maxima_bg = x_bn[:, : groups * GROUP]
    while maxima_bg.shape[1] > groups:
        half = maxima_bg.shape[1] // 2
        maxima_bg = torch.maximum(maxima_bg[:, :half], maxima_bg[:, half:])
    best_bc = maxima_bg.topk(count, dim=1, sorted=False).indices
    members_bm = (best_bc[:, :, None] + torch.arange(0, groups * GROUP, groups, device=x_bn.device)).flatten(1)
    rest_bm = torch.arange(groups * GROUP, n, device=x_bn.device).expand(len(x_bn), -1)
    members_bm = torch.cat([members_bm, rest_bm], 1)
    values_bc, place_bc = x_bn.gather(1, members_bm).topk(count, dim=1)
    return values_bc, members_bm.gather(1, place_bc)


class _BeamSearch:
    """State of one beam search; one row per open hypothesis."""

    def __init__(self, model: AutoregressiveModel, source_bs: Tensor, options: Beam, prefix_bt: Tensor | None) -> None:
        self.model = model
        self.prefix_bt = prefix_bt
        self.k = options.beam_size
        self.alpha = options.length_penalty
        self.impossible = no_output(options)
        self.device = source_bs.device
        self.limits = output_limits(source_bs, options.max_ratio, longest=model.config.max_length, prefix_bt=prefix_bt)
        self.finished: list[list[Hypothesis]] = [[] for _ in self.limits]
        self.open_sources = list(range(len(self.limits)))
        self.cache: Cache = model.start(source_bs)

    def run(self) -> list[list[Hypothesis]]:
        """N-best lists, best first; truncated hypotheses last."""
        b = len(self.open_sources)
        k = self.k
        self.cache.select(torch.arange(b, device=self.device).repeat_interleave(k))
        token_r = torch.full((b * k,), BOS, device=self.device)
        # the rows of a source are equal at first, so only the first may be extended
        score_bk = torch.full((b, k), float("-inf"), device=self.device)
        score_bk[:, 0] = 0.0
        tokens_rt = torch.zeros((b * k, 0), dtype=torch.long, device=self.device)
        step = 0
        while self.open_sources:
            step += 1
            log_probs_rv = self.model.step(token_r, self.cache)
            given_r = None
            if self.prefix_bt is not None and step <= self.prefix_bt.shape[1]:
                given_r = self.prefix_bt[self.open_sources, step - 1].repeat_interleave(k)
            restrict(log_probs_rv, self.impossible, given_r)
            v = log_probs_rv.shape[1]
            candidates_bkv = log_probs_rv.view(-1, k, v).add_(score_bk[:, :, None])
            best_bc, index_bc = largest(candidates_bkv.flatten(1), min(2 * k, k * v))
            row_bc = index_bc // v
            token_bc = index_bc % v
            self._finish(best_bc, row_bc, token_bc=token_bc, tokens_rt=tokens_rt, step=step)
            score_bk, row_bk, token_bk = self._continue(best_bc, row_bc, token_bc)
            keep = self._still_open(score_bk, step)
            score_bk, row_bk, token_bk = score_bk[keep], row_bk[keep], token_bk[keep]
            rows = (keep[:, None] * k + row_bk).flatten()
            token_r = token_bk.flatten()
            tokens_rt = torch.cat([tokens_rt[rows], token_r[:, None]], 1)
            all_open = len(keep) == len(self.open_sources)
            self.open_sources = [self.open_sources[i] for i in keep.tolist()]
            if self.open_sources:
                self.cache.select(rows, None if all_open else keep)
        return self.finished

    def _finish(self, best_bc: Tensor, row_bc: Tensor, token_bc: Tensor, tokens_rt: Tensor, step: int) -> None:
        """Store candidates that end at this step: with eos among the k best, or truncated at the length limit."""
        penalty = length_penalty(step, self.alpha)
        ends_bc = (token_bc == EOS) & (best_bc > float("-inf"))
        ends_bc[:, self.k :] = False
        source_e = ends_bc.nonzero()[:, 0]
        tokens_et = tokens_rt[source_e * self.k + row_bc[ends_bc]]
        for i, tokens, score in zip(source_e.tolist(), tokens_et.tolist(), best_bc[ends_bc].tolist(), strict=True):
            self._store(i, Hypothesis(tokens=tokens, score=score / penalty, truncated=False, passes=step))
        for i, source in enumerate(self.open_sources):
            if step > self.limits[source] and len(self.finished[source]) < self.k:
                for c in range(best_bc.shape[1]):
                    if token_bc[i, c] != EOS and best_bc[i, c] > float("-inf"):
                        tokens = tokens_rt[i * self.k + int(row_bc[i, c])].tolist()
                        score = float(best_bc[i, c]) / penalty
                        self._store(i, Hypothesis(tokens=tokens, score=score, truncated=True, passes=step))

    def _store(self, i: int, hypothesis: Hypothesis) -> None:
        """Insert into the finished hypotheses of open source ``i``; its k best remain."""
        finished = self.finished[self.open_sources[i]]
        if hypothesis.truncated and any(hypothesis.tokens == other.tokens for other in finished):
            return
        finished.append(hypothesis)
        finished.sort(key=lambda h: (h.truncated, -h.score))
        del finished[self.k :]

    def _continue(self, best_bc: Tensor, row_bc: Tensor, token_bc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores, rows and tokens of the k best candidates that do not end."""
        score_bc = best_bc.masked_fill(token_bc == EOS, float("-inf"))
        score_bk, index_bk = score_bc.topk(self.k, dim=1)
        return score_bk, row_bc.gather(1, index_bk), token_bc.gather(1, index_bk)

    def _still_open(self, score_bk: Tensor, step: int) -> Tensor:
        """Indices of the open sources that are not finished after this step."""
        keep = []
        for i, (source, best) in enumerate(zip(self.open_sources, score_bk[:, 0].tolist(), strict=True)):
            finished = self.finished[source]
            if step > self.limits[source] or best == float("-inf"):
                continue
            if len(finished) >= self.k:
                # log P can only fall, and the penalty that divides it is largest at the limit
                reachable = best / length_penalty(self.limits[source] + 1, self.alpha)
                if reachable <= finished[-1].score:
                    continue
            keep.append(i)
        return torch.tensor(keep, dtype=torch.long, device=self.device)
