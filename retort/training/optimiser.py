"""Adam over flat float32 master weights, with the model's own weights in the training precision.

The parameters of the model become views into one flat tensor, and so do their gradients. Casting, clipping and the
update are then a few operations on long vectors instead of hundreds on short ones. Rounding errors never accumulate,
because the update is applied to the float32 copy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from retort.config import Training


class FlatOptimiser:
    """Adam with decoupled weight decay (not on vectors), gradient clipping and a learning-rate schedule."""

    def __init__(self, model: nn.Module, settings: Training, dtype: torch.dtype) -> None:
        """Casts the model to ``dtype`` and takes over its parameters."""
        named = dict(model.named_parameters())
        matrices = [p for p in named.values() if p.dim() > 1]
        vectors = [p for p in named.values() if p.dim() <= 1]
        self.parameters = [*matrices, *vectors]
        self.split = sum(p.numel() for p in matrices)
        self.master = torch.cat([p.detach().float().flatten() for p in self.parameters])
        self.weights = self.master.to(dtype)
        self.gradients = torch.zeros_like(self.weights)
        self.total = torch.zeros_like(self.master)
        start = 0
        for parameter in self.parameters:
            inside = slice(start, start + parameter.numel())
            parameter.data = self.weights[inside].view(parameter.shape)
            parameter.grad = self.gradients[inside].view(parameter.shape)
            start = inside.stop
        for name, buffer in model.named_buffers():
            owner, _, leaf = name.rpartition(".")
            if buffer.is_floating_point():
                model.get_submodule(owner)._buffers[leaf] = buffer.to(dtype)
        self.settings = settings
        self.groups = [self.group_of(self.master, part) for part in (0, 1)]
        self.moments: list[dict[str, Tensor]] = []
        """Of each group: ``step``, ``exp_avg`` and ``exp_avg_sq``, from the first update on."""

    def group_of(self, flat: Tensor, group: int) -> Tensor:
        """The part of a flat tensor that belongs to matrices (0) or to vectors (1)."""
        return flat[self.split :] if group else flat[: self.split]

    def collect(self) -> None:
        """Add the gradients of a backward pass, in float32, to those of this update."""
        self.total += self.gradients
        self.gradients.zero_()

    def step(self, update: int) -> float:
        """Update number ``update`` (from 1); returns the gradient norm before clipping.

        When the norm is not finite, nothing is updated.
        """
        total_norm = self.total.norm()
        norm = float(total_norm)
        if not math.isfinite(norm):
            return norm
        if self.settings.clip:
            self.total *= (self.settings.clip / (total_norm + 1e-6)).clamp(max=1.0)
        if not self.moments:
            self.moments = [initial_moments(group) for group in self.groups]
        for i, (group, moments) in enumerate(zip(self.groups, self.moments, strict=True)):
            # The function, because the class imports PyTorch's compiler: 1.5 seconds of each training.
            adamw(
                params=[group],
                grads=[self.group_of(self.total, i)],
                exp_avgs=[moments["exp_avg"]],
                exp_avg_sqs=[moments["exp_avg_sq"]],
                max_exp_avg_sqs=[],
                state_steps=[moments["step"]],
                fused=True,
                amsgrad=False,
                beta1=self.settings.betas[0],
                beta2=self.settings.betas[1],
                lr=learning_rate(self.settings, update),
                weight_decay=0.0 if i else self.settings.weight_decay,
                eps=self.settings.epsilon,
                maximize=False,
            )
        self.weights.copy_(self.master)
        self.total.zero_()
        return norm

    def named_master(self, model: nn.Module) -> dict[str, Tensor]:
        """The float32 weights by the model's parameter names."""
        start = 0
        places: dict[int, slice] = {}
        for parameter in self.parameters:
            places[id(parameter)] = slice(start, start + parameter.numel())
            start += parameter.numel()
        return {name: self.master[places[id(p)]].view(p.shape) for name, p in model.named_parameters()}

    def load_weights(self, master: Tensor) -> None:
        """Put a flat float32 copy of the weights into the optimiser and the model."""
        self.master.copy_(master)
        self.weights.copy_(self.master)

    def state(self) -> dict[str, Tensor]:
        """Weights and moments as flat tensors."""
        tensors = {"master": self.master}
        for i, moments in enumerate(self.moments):
            tensors |= {f"{i}.{name}": value for name, value in moments.items()}
        return tensors

    def state_shapes(self, update: int) -> dict[str, torch.Size]:
        """Names and shapes of what ``state`` gives after this update; before the first one there are no moments."""
        shapes = {"master": self.master.shape}
        for i, group in enumerate(self.groups if update else []):
            shapes |= {f"{i}.step": torch.Size(), f"{i}.exp_avg": group.shape, f"{i}.exp_avg_sq": group.shape}
        return shapes

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """The reverse of ``state``."""
        self.load_weights(tensors["master"])
        if len(tensors) > 1:
            names = ("step", "exp_avg", "exp_avg_sq")
            self.moments = [
                {name: tensors[f"{i}.{name}"].to(self.master.device).clone() for name in names} for i in (0, 1)
            ]


def initial_moments(weights: Tensor) -> dict[str, Tensor]:
    """What Adam remembers of flat weights before their first update."""
    step = torch.zeros((), dtype=torch.float32, device=weights.device)
    return {"step": step, "exp_avg": torch.zeros_like(weights), "exp_avg_sq": torch.zeros_like(weights)}


def learning_rate(settings: Training, update: int) -> float:
    """Learning rate of update number ``update`` (from 1)."""
    peak, warmup = settings.learning_rate, settings.warmup
    if update <= warmup:
        return peak * update / warmup
    if settings.schedule == "inverse_sqrt":
        return peak * math.sqrt(max(warmup, 1) / update)
    if settings.schedule == "cosine":
        done = (update - warmup) / max(1, settings.max_updates - warmup)
        return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
    return peak
