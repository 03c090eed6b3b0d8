"""A device that is not there: finds tensors of two devices that meet, on a machine without a GPU.

All tensors are on the CPU. Those that would be on a GPU are marked ``far``: parameters, what ``to(device)`` returns,
what is created with ``device=``, and what is computed from them. What torch would refuse on a GPU raises DevicesMeet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

FAR, NEAR = "far", "near"
CREATED_NEAR = ("tensor", "from_numpy", "frombuffer", "as_tensor")
FACTORIES = (*CREATED_NEAR, "zeros", "ones", "full", "empty", "arange", "rand", "randn", "randint", "randperm", "eye",
             "linspace", "tril_indices", "triu_indices")  # fmt: skip
TO_NUMPY = ("numpy", "__array__")
MAY_MIX = (
    "copy_",
    "to",
    "type_as",
    "__getitem__",
    "__get__",
    "__set__",
    "set_",
    "size",
    "dim",
    "__len__",
    "is_floating_point",
)


TAKE_NO_NUMBERS = ("stack", "cat")
"""Where even a number of the CPU may not meet tensors of a device."""


class DevicesMeet(AssertionError):
    """An operation that torch refuses where its tensors are on two devices."""


def mark_far(module: nn.Module) -> None:
    """Put a module on the device that is not there."""
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.place = FAR  # type: ignore[attr-defined]


def place_of(tensor: Tensor) -> str | None:
    """FAR, NEAR or, for what autograd keeps by itself, unknown."""
    return tensor.__dict__.get("place")


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors of nested arguments."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            yield from tensors_in(part)


class FakeDevice(TorchFunctionMode):
    """Within it, operations check and mark places."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        given = list(tensors_in((args, kwargs)))
        self._check(name, given, args, kwargs)
        result = function(*args, **kwargs)
        if name in ("cpu", "to") and isinstance(result, Tensor):
            # torch returns the same tensor where nothing moves
            result = result.view_as(result)
        place = self._place_of_result(name, given, args, kwargs)
        if place is not None and name not in TO_NUMPY:
            for tensor in tensors_in(result):
                if name != "__get__" or place_of(tensor) is None:
                    tensor.place = place  # type: ignore[attr-defined]
        return result

    def _check(self, name: str, given: list[Tensor], args: Any, kwargs: Any) -> None:
        if name in FACTORIES and kwargs.get("generator") is not None and kwargs.get("device") is not None:
            raise DevicesMeet(f"{name}: a generator of the CPU cannot draw on another device")
        if name in TO_NUMPY and place_of(args[0]) == FAR:
            raise DevicesMeet(f"{name}: only tensors of the CPU have arrays; call cpu() first")
        if name == "__getitem__":
            index_places = {place_of(t) for t in tensors_in(args[1:]) if t.dim()}
            if place_of(args[0]) == NEAR and FAR in index_places:
                raise DevicesMeet("a tensor of the CPU, indexed by one of another device")
        if name in MAY_MIX:
            return
        places = {place_of(t) for t in given if t.dim() or name in TAKE_NO_NUMBERS} - {None}
        if len(places) > 1:
            shapes = [(place_of(t), tuple(t.shape)) for t in given]
            raise DevicesMeet(f"{name}: tensors of two devices, {shapes}")

    def _place_of_result(self, name: str, given: list[Tensor], args: Any, kwargs: Any) -> str | None:
        if name == "cpu":
            return NEAR
        if name == "to":
            moved = any(isinstance(x, torch.device) for x in (*args[1:], kwargs.get("device")))
            return FAR if moved else place_of(args[0])
        if name in FACTORIES:
            return FAR if kwargs.get("device") is not None else NEAR
        if name in MAY_MIX and given:
            return place_of(given[0])
        places = [place_of(t) for t in given]
        # numbers of the CPU may meet tensors of a device, which then decide
        return FAR if FAR in places else NEAR if NEAR in places else None
