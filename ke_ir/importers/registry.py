"""Which function imports which ATen operator."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from ke_ir.expr import Expr, show
from ke_ir.importers.graph import At, Builder, Value
from ke_ir.index_maps import number
from ke_ir.types import DType

Handler = Callable[..., Any]
F = TypeVar("F", bound=Handler)
HANDLERS: dict[str, Handler] = {}
"""By the name of the overload, as in ``add.Tensor``."""


class Unsupported(Exception):
    """What an operator is asked to do has no form in KE-IR (yet)."""


def whole(n: Expr) -> int:
    """A size that must be a number. Raises Unsupported."""
    size = number(n)
    if size is None:
        raise Unsupported(f"a size of {show(n)} where a number is needed")
    return size


@dataclass(frozen=True)
class Layout:
    """How a tensor lies in its storage of ``elements``, as PyTorch has it."""

    strides: tuple[int, ...]
    offset: int
    elements: int


@dataclass(frozen=True)
class Node:
    """One call in the graph: its name, and the types of what it gives.

    ``layouts`` are those of its tensor arguments, in order, as far as they are numbers.
    """

    name: str
    builder: Builder
    results: tuple[tuple[tuple[Expr, ...], DType], ...]
    layouts: tuple[Layout | None, ...] = ()

    @property
    def shape(self) -> tuple[Expr, ...]:
        return self.results[0][0]

    @property
    def dtype(self) -> DType:
        return self.results[0][1]

    def define(self, body: At, result: int = 0, suffix: str = "") -> Value:
        """The equation of one result."""
        shape, dtype = self.results[result]
        return self.builder.define(self.name + suffix, shape, dtype, body)

    def reduce(self, kind: str, sizes: Any, body: At) -> Expr:
        return self.builder.reduce(kind, sizes, body)


def aten(*names: str) -> Callable[[F], F]:
    """Registers a function of (node, arguments in the order of the operator's schema...)."""

    def register(f: F) -> F:
        for name in names:
            if name in HANDLERS:
                raise ValueError(f"two functions import aten.{name}")
            HANDLERS[name] = f
        return f

    return register


@cache
def handlers() -> dict[str, Handler]:
    """All of them, with the modules that hold them loaded."""
    from ke_ir.importers import aten as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return HANDLERS
