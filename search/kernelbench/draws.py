"""The random numbers that a module draws: noted in one run of it, and given in others.

They are PyTorch's own. A kernel has no generator: it gets as inputs what the module drew, so that
both compute the same from the same numbers. Used in worker processes only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ke_ir.importers.graph import Draw
from ke_ir.importers.torch_export import Argument
from ke_ir.index_maps import number
from targets.gpu.tensors import torch_dtype

_WHOLE = ("rand.default", "rand_like.default", "randn.default", "randn_like.default",
          "uniform_.default", "normal_.default", "normal.float_float", "bernoulli.p",
          "bernoulli_.float")  # fmt: skip
"""Operators whose result is what was drawn."""


class OtherDraws(Exception):
    """A module draws other random numbers than its graph or an earlier run of it."""


class Draws(TorchDispatchMode):  # type: ignore[misc]
    """While on, notes what the operators draw, in their order; or has them give ``given`` instead.

    An operator whose probabilities or means are a tensor draws uniform or normal numbers and
    computes with these, as its graph does.
    """

    def __init__(self, given: Sequence[torch.Tensor] | None = None) -> None:
        super().__init__()
        self.noted: list[torch.Tensor] = []
        self.given: Iterator[torch.Tensor] | None = None if given is None else iter(given)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what was asked, with what is drawn noted or replaced."""
        name = str(func).removeprefix("aten.")
        if name in _WHOLE:
            return self._drawn(func(*args, **(kwargs or {})))
        if name in _IN_PARTS:
            return _IN_PARTS[name](self._drawn, *args)
        if name == "native_dropout.default" and args[2] is not False and 0 < args[1] < 1:
            return self._dropout(func(*args), args[0], args[1])
        return func(*args, **(kwargs or {}))

    def _drawn(self, made: torch.Tensor) -> torch.Tensor:
        """What was drawn, in place, since some operators draw into a tensor that is there."""
        if self.given is not None:
            made.copy_(self._next(made))
        self.noted.append(made.clone())
        return made

    def _dropout(self, made: Any, x: torch.Tensor, p: float) -> tuple[torch.Tensor, torch.Tensor]:
        kept, mask = made
        if self.given is not None:
            mask = self._next(mask).to(mask.dtype)
            kept = x * mask * (1 / (1 - p))
        self.noted.append(mask)
        return kept, mask

    def _next(self, made: torch.Tensor) -> torch.Tensor:
        assert self.given is not None
        found = next(self.given, None)
        if found is None or found.shape != made.shape:
            has = "nothing more" if found is None else f"numbers of shape {list(found.shape)}"
            raise OtherDraws(
                f"the module draws numbers of shape {list(made.shape)} where it drew {has} before"
            )
        return found


Drawn = Callable[[torch.Tensor], torch.Tensor]


def _bernoulli(drawn: Drawn, p: torch.Tensor, *_: Any) -> torch.Tensor:
    return (drawn(torch.rand_like(p)) < p).to(p.dtype)


def _normal(drawn: Drawn, mean: Any, deviation: Any, *_: Any) -> torch.Tensor:
    m, d = torch.broadcast_tensors(*(torch.as_tensor(x) for x in (mean, deviation)))
    return drawn(torch.randn_like(m if isinstance(mean, torch.Tensor) else d)) * deviation + mean


_IN_PARTS: dict[str, Callable[..., torch.Tensor]] = {
    "bernoulli.default": _bernoulli,
    "normal.Tensor_float": _normal,
    "normal.float_Tensor": _normal,
    "normal.Tensor_Tensor": _normal,
}


def as_arguments(
    arguments: Sequence[Argument], count: int, noted: Sequence[torch.Tensor]
) -> dict[str, torch.Tensor]:
    """What a run of the module drew, by the arguments of the op that it is for.

    ``count``: how many times the graph draws. Raises OtherDraws.
    """
    if any(a.draw for a in arguments) and len(noted) != count:
        raise OtherDraws(f"the module draws {len(noted)} times, its graph {count} times")
    out = {}
    for a in arguments:
        if a.draw is None:
            continue
        found, wanted = noted[a.position], [number(n) for n in a.draw.shape]
        if list(found.shape) != wanted:
            raise OtherDraws(f"the module draws {list(found.shape)} where its graph has {wanted}")
        out[a.name] = found.to(_dtype(a.draw)).contiguous()
    return out


def fresh(draw: Draw, device: str) -> torch.Tensor:
    """New numbers of the kind, from PyTorch's generator."""
    made = torch.empty([number(n) for n in draw.shape], dtype=_dtype(draw), device=device)
    if draw.kind == "bernoulli":
        return made.bernoulli_(*draw.parameters)
    if draw.kind == "uniform":
        return made.uniform_(*draw.parameters)
    return made.normal_(*draw.parameters)


def _dtype(draw: Draw) -> torch.dtype:
    return torch_dtype(draw.dtype.value)
