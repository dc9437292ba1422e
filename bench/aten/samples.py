"""Samples of PyTorch's operators as modules that take tensors only."""

from __future__ import annotations

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


class Several(torch.nn.Module):
    """Calls beside one another, in one graph: exporting them together saves most of the time."""

    def __init__(self, calls: Sequence[Called]) -> None:
        super().__init__()
        self.calls = list(calls)

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(x for c in self.calls for x in c.tensors)

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


def samples(name: str, dtype: str, most: int) -> Iterator[Sample]:
    """At most ``most`` samples (0: all), spread evenly over those that PyTorch has."""
    info = operators()[name]
    wanted = getattr(torch, dtype)
    if not info.supports_dtype(wanted, "cpu"):
        return
    torch.manual_seed(_SEED)
    found = list(info.sample_inputs("cpu", wanted, requires_grad=False))
    count = min(most or len(found), len(found))
    for k in range(count):
        number = k * len(found) // count
        s = found[number]
        yield Sample(dtype, number, Called(info.op, ((s.input, *s.args), dict(s.kwargs))))
