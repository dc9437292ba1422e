"""Samples of PyTorch's operators as modules that take tensors only."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch.utils import _pytree as pytree

DTYPES = ("float32", "float64", "int64", "bool")
_SEED = 0


class Called(torch.nn.Module):
    """One call of an operator: what is a tensor among its arguments is an input."""

    def __init__(self, function: Any, arguments: Any) -> None:
        super().__init__()
        self.function = function
        self.leaves, self.spec = pytree.tree_flatten(arguments)

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(x for x in self.leaves if isinstance(x, torch.Tensor))

    @property
    def traced(self) -> torch.nn.Module:
        """What ``torch.export`` takes."""
        return self

    def forward(self, *tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        leaves = [next(given) if isinstance(x, torch.Tensor) else x for x in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return self.function(*args, **kwargs)

    def double(self) -> Called:
        """The same call with every floating dtype it names replaced by float64."""
        found = Called(self.function, ())
        found.leaves = [torch.float64 if isinstance(x, torch.dtype) and x.is_floating_point else x
                        for x in self.leaves]  # fmt: skip
        found.spec = self.spec
        return found


class Gradient(Called):
    """The gradients of a call by its floating inputs, given those by its results."""

    def __init__(self, call: Called) -> None:
        super().__init__(call.function, ())
        self.call, self.leaves = call, call.leaves
        with torch.enable_grad():
            self.seeds = tuple(torch.randn_like(x.detach()) for x in self.results(*call.tensors)[1])

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return (*self.call.tensors, *self.seeds)

    @property
    def traced(self) -> torch.nn.Module:
        return _traced(self)

    def results(self, *tensors: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Inputs that may have a gradient, and what depends on them."""
        given = [x.detach().requires_grad_(x.is_floating_point()) for x in tensors]
        outs = pytree.tree_leaves(self.call(*(x.view_as(x) for x in given)))
        wanted = [x for x in given if x.requires_grad]
        return wanted, [x for x in outs if isinstance(x, torch.Tensor) and x.requires_grad]

    def forward(self, *tensors: torch.Tensor) -> Any:
        count = len(self.call.tensors)
        with torch.enable_grad():
            given, outs = self.results(*tensors[:count])
            found = torch.autograd.grad(outs, given, tensors[count:], allow_unused=True)
        return [x for x in found if x is not None]

    def double(self) -> Gradient:
        found = copy.copy(self)
        found.call = self.call.double()
        return found


def _traced(module: torch.nn.Module) -> torch.nn.Module:
    """A module without autograd: its gradients are operators like others."""
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        made: torch.nn.Module = make_fx(module)(*module.tensors)
    return made


class Several(torch.nn.Module):
    """Calls beside one another, in one graph: exporting them together saves most of the time."""

    def __init__(self, calls: Sequence[Called]) -> None:
        super().__init__()
        self.calls = list(calls)

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(x for c in self.calls for x in c.tensors)

    @property
    def traced(self) -> torch.nn.Module:
        backward = any(isinstance(c, Gradient) for c in self.calls)
        return _traced(self) if backward else self

    def forward(self, *tensors: torch.Tensor) -> Any:
        given = iter(tensors)
        return [c(*itertools.islice(given, len(c.tensors))) for c in self.calls]


@dataclass(frozen=True)
class Sample:
    """The ``number``-th of an operator's samples of a dtype."""

    dtype: str
    number: int
    call: Called


@cache
def operators() -> dict[str, Any]:
    """OpInfo entries by name, as in ``nn.functional.pad.reflect``."""
    from torch.testing._internal.common_methods_invocations import op_db

    return {name_of(info): info for info in op_db}


def names(*_: Any) -> list[str]:
    """The task that lists them, so that torch is loaded in a worker only."""
    return list(operators())


def name_of(info: Any) -> str:
    variant = info.variant_test_name
    return f"{info.name}.{variant}" if variant else str(info.name)


def samples(name: str, dtype: str, most: int, backward: bool) -> Iterator[Sample]:
    """At most ``most`` samples (0: all), spread evenly over those that PyTorch has."""
    info = operators()[name]
    wanted = getattr(torch, dtype)
    if not info.supports_dtype(wanted, "cpu") or (backward and not info.supports_autograd):
        return
    torch.manual_seed(_SEED)
    found = list(info.sample_inputs("cpu", wanted, requires_grad=False))
    count = min(most or len(found), len(found))
    for k in range(count):
        number = k * len(found) // count
        s = found[number]
        call = Called(info.op, ((s.input, *s.args), dict(s.kwargs)))
        if backward:
            with contextlib.suppress(Exception):  # what cannot be differentiated is no sample
                yield Sample(dtype, number, Gradient(call))
        else:
            yield Sample(dtype, number, call)
