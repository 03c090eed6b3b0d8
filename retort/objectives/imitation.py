"""Imitation of an autoregressive teacher at prefixes of the data and of the student itself (ImitKD, Lin et al. 2020).

Shape letters: b batch, s source position, t target position, r sentences with prefixes of the student, n prefixes in
the loss, d width, v vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from retort.config import Imitation, Mixture, Rollout
from retort.data.batches import LENGTH_STEP, Batch, round_up
from retort.data.teacher_labels import StoredLabels
from retort.data.vocabulary import PAD
from retort.errors import RetortError
from retort.losses.base import Loss
from retort.losses.cross_entropy import linear_cross_entropy
from retort.losses.teacher_forcing import shifted_right
from retort.losses.top_k_cross_entropy import teacher_cross_entropy, top_k_cross_entropy
from retort.models.autoregressive import AutoregressiveModel
from retort.models.kernels import most_probable
from retort.objectives.base import Step
from retort.objectives.shared.next_token import next_token_log_likelihood, next_token_loss
from retort.search.base import output_limits
from retort.search.left_to_right import Choose, best_token, extend

log_likelihood = next_token_log_likelihood


@dataclass(frozen=True)
class Prefixes:
    """The sequences whose prefixes a batch trains on."""

    output_bt: Tensor
    """The data's targets, with eos; in the rows ``own_r`` the student's outputs. An output ends with eos or, if it was
    cut at the length limit, with the token beyond the limit, which is in no prefix."""
    own_r: Tensor
    """Rows of the batch, in ascending order."""


def compute(model: AutoregressiveModel, batch: Batch, options: Imitation, step: Step) -> Loss:
    """Mean over the prefixes without eos. In validation plain next-token prediction, without a teacher."""
    if not model.training:
        return next_token_loss(model, batch, 0.0)
    prefixes = step.prepared or prepare(model, [batch], options=options, steps=[step])[0]
    input_bt = shifted_right(prefixes.output_bt)
    real_bt = prefixes.output_bt != PAD
    states_nd = model(batch.source_bs, input_bt)[real_bt]
    weight_vd = model.embeddings.output
    share = torch.tensor(len(prefixes.own_r) / len(input_bt), device=input_bt.device)
    if options.labels == "stored":
        labels = _stored_labels(step).of(batch.ids).to(states_nd.device)
        return Loss(top_k_cross_entropy(states_nd, weight_vd, labels) / len(states_nd))
    if options.labels == "full":
        teacher = _teacher(step)
        with torch.no_grad():
            # the output projection has no bias, so scaled states give scaled logits
            theirs_nd = teacher(batch.source_bs, input_bt)[real_bt] / options.temperature
        loss = teacher_cross_entropy(theirs_nd, teacher.embeddings.output, options.top_k)
        total = loss(states_nd, weight_vd, None)
        return Loss(total / len(states_nd), {"rollouts": share})
    target_bt = prefixes.output_bt
    if len(prefixes.own_r):
        own_r = prefixes.own_r
        answers_rt = answers(_teacher(step), batch.source_bs[own_r], input_rt=input_bt[own_r], real_rt=real_bt[own_r])
        target_bt = target_bt.index_copy(0, own_r, answers_rt)
    total, nll = linear_cross_entropy(states_nd, weight_vd, target_bt[real_bt], label_smoothing=options.label_smoothing)
    return Loss(total / len(states_nd), {"nll": nll / len(states_nd), "rollouts": share})


@torch.no_grad()
def prepare(
    model: AutoregressiveModel, batches: Sequence[Batch], options: Imitation, steps: Sequence[Step]
) -> list[Prefixes]:
    """The prefixes of several batches. A sentence keeps the data's with the probability beta of the first step.

    The student decodes all other sentences in one call.
    """
    beta = data_share(options.beta, steps[0].progress)
    drawn = [torch.rand(len(b.source_bs), generator=s.generator) >= beta for b, s in zip(batches, steps, strict=True)]
    rows = [own_b.nonzero()[:, 0].to(model.device) for own_b in drawn]
    sources = [batch.source_bs[own_r] for batch, own_r in zip(batches, rows, strict=True) if len(own_r)]
    if not sources:
        return [Prefixes(batch.target_bt, own_r) for batch, own_r in zip(batches, rows, strict=True)]
    width = max(source_rs.shape[1] for source_rs in sources)
    source_rs = torch.cat([_padded(source_rs, width) for source_rs in sources])
    target_r = torch.cat([(batch.target_bt[own_r] != PAD).sum(1) for batch, own_r in zip(batches, rows, strict=True)])
    limits = own_limits(source_rs, target_r, options=options.rollout, longest=model.config.max_length)
    output_rt = rollouts(model, source_rs, limits, options=options.rollout, generator=steps[0].generator)
    outputs = output_rt.split([len(own_r) for own_r in rows])
    return [_mixed(*parts) for parts in zip(batches, rows, outputs, strict=True)]


def data_share(beta: Mixture, progress: float) -> float:
    """Probability that a sentence keeps the data's prefixes."""
    return max(beta.least, _scheduled_share(beta, progress))


def _scheduled_share(beta: Mixture, progress: float) -> float:
    if beta.schedule == "exponential":
        return beta.share**progress
    if beta.schedule == "linear":
        return 1 + (beta.share - 1) * progress
    if beta.schedule == "reverse_sigmoid":
        return 1 / (1 + math.exp(20 * (progress - 0.5)))
    return beta.share


def own_limits(source_rs: Tensor, target_r: Tensor, options: Rollout, longest: int) -> list[int]:
    """Longest output of each source in tokens, without eos; ``target_r``: lengths of the data's targets, with eos."""
    limits = output_limits(source_rs, options.max_ratio, longest)
    if options.target_ratio is None:
        return limits
    scaled = [max(1, int(options.target_ratio * (length - 1))) for length in target_r.tolist()]
    return [min(pair) for pair in zip(limits, scaled, strict=True)]


def rollouts(
    model: AutoregressiveModel, source_rs: Tensor, limits: list[int], options: Rollout, generator: torch.Generator
) -> Tensor:
    """The model's own outputs [r, t], decoded in evaluation mode: with eos or cut at ``limits``, then padding."""
    choose = _sampler(options.top_k, generator) if options.kind == "sample" else best_token
    training = model.training
    outputs = extend(model.eval(), source_rs, limits=limits, choose=choose)
    model.train(training)
    positions_t = torch.arange(outputs.tokens_bt.shape[1], device=source_rs.device)
    return outputs.tokens_bt.masked_fill(positions_t >= outputs.length_b[:, None], PAD)


@torch.no_grad()
def answers(teacher: AutoregressiveModel, source_rs: Tensor, input_rt: Tensor, real_rt: Tensor) -> Tensor:
    """The teacher's most probable token [r, t] after each prefix in the loss, PAD elsewhere."""
    states_nd = teacher(source_rs, input_rt)[real_rt]
    return torch.full_like(input_rt, PAD).masked_scatter(real_rt, most_probable(states_nd, teacher.embeddings.output))


def _sampler(top_k: int, generator: torch.Generator) -> Choose:
    """Draws from the ``top_k`` most probable tokens, with their probabilities normalised to sum to 1."""

    def choose(log_probs_bv: Tensor) -> tuple[Tensor, Tensor]:
        best = log_probs_bv.topk(min(top_k, log_probs_bv.shape[1]), 1)
        below_bk = torch.softmax(best.values, 1).cumsum(1)[:, :-1]
        number_b1 = torch.rand(len(below_bk), 1, generator=generator).to(below_bk.device)
        chosen_b1 = (below_bk <= number_b1).sum(1, keepdim=True)
        return best.values.gather(1, chosen_b1)[:, 0], best.indices.gather(1, chosen_b1)[:, 0]

    return choose


def _mixed(batch: Batch, own_r: Tensor, output_rt: Tensor) -> Prefixes:
    """A batch's targets with the rows ``own_r`` replaced by outputs, padded to a multiple of LENGTH_STEP."""
    if not len(own_r):
        return Prefixes(batch.target_bt, own_r)
    longest = int((output_rt != PAD).sum(1).max())
    width = max(batch.target_bt.shape[1], round_up(longest, LENGTH_STEP))
    output_rt = _padded(output_rt[:, :longest], width)
    return Prefixes(_padded(batch.target_bt, width).index_copy(0, own_r, output_rt), own_r)


def _padded(tokens_bt: Tensor, width: int) -> Tensor:
    return functional.pad(tokens_bt, (0, width - tokens_bt.shape[1]), value=PAD)


def _stored_labels(step: Step) -> StoredLabels:
    if step.labels is None:
        raise RetortError("objective imitation reads stored labels, and there are none; give their table")
    return step.labels


def _teacher(step: Step) -> AutoregressiveModel:
    """The teacher; raises RetortError if there is none."""
    if step.teacher is None:
        raise RetortError("objective imitation asks a teacher, and there is none; give an autoregressive checkpoint")
    return step.teacher
