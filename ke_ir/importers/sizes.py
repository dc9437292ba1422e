"""Sizes that are arguments of a run: from ``torch.export``'s symbols to dims of an op."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ke_ir.expr import Bin, Call, Dim, Expr, Num
from ke_ir.importers.registry import Unsupported
from ke_ir.index_maps import add, mul
from ke_ir.ir import DimDecl


@dataclass(frozen=True)
class DynamicDim:
    """A dim of any size from ``low`` to ``high`` (both included).

    It stands at ``places``: position among the module's tensor arguments, and dimension.
    """

    name: str
    places: tuple[tuple[int, int], ...]
    low: int = 1
    high: int = 65536


def dynamic_shapes(dims: Sequence[DynamicDim], inputs: Sequence[Any]) -> Any:
    """What ``torch.export`` wants to be told; None for none. Raises ValueError."""
    if not dims:
        return None
    from torch.export import Dim as TorchDim

    shapes: list[dict[int, Any]] = [{} for _ in inputs]
    for d in dims:
        made = TorchDim(d.name, min=d.low, max=d.high)
        for position, at in d.places:
            if position >= len(inputs) or at >= getattr(inputs[position], "ndim", 0):
                raise ValueError(f"dim {d.name}: there is no input {position} with a dim {at}")
            shapes[position][at] = made
    return tuple(shapes)


class Symbols:
    """The dims of one op, by the symbol that stands for each in the exported program."""

    def __init__(self, dims: Sequence[DynamicDim]) -> None:
        self.dims = {place: d for d in dims for place in d.places}
        self.names: dict[str, str] = {}
        self.declared: list[DimDecl] = []

    def input(self, position: int, shape: Sequence[Any], example: Sequence[int]) -> None:
        """Learn the symbols in the shape of an input."""
        for at, n in enumerate(shape):
            d = self.dims.get((position, at))
            if isinstance(n, int) or d is None:
                continue
            symbol = str(n.node.expr)
            if symbol not in self.names:
                self.names[symbol] = d.name
                self.declared.append(DimDecl(d.name, Num(example[at]), d.low, d.high))

    def size(self, n: Any) -> Expr:
        """A size as an expression over dims. Raises Unsupported."""
        return Num(n) if isinstance(n, int) else self.convert(n.node.expr)

    def convert(self, e: Any) -> Expr:
        """A sympy expression."""
        kind = type(e).__name__
        if e.is_Integer:
            return Num(int(e))
        if e.is_Symbol and str(e) in self.names:
            return Dim(self.names[str(e)])
        parts = [self.convert(a) for a in e.args]
        if kind in ("Add", "Mul") and parts:
            out = parts[0]
            for p in parts[1:]:
                out = add(out, p) if kind == "Add" else mul(out, p)
            return out
        if kind in ("FloorDiv", "CleanDiv", "Mod", "PythonMod"):
            return Bin("%" if "Mod" in kind else "//", *parts)
        if kind in ("Max", "Min") and len(parts) == 2:
            return Call(kind.lower(), tuple(parts))
        raise Unsupported(f"the size {e}, which depends on data")


def parsed(texts: Sequence[str], parameters: Sequence[str]) -> list[DynamicDim]:
    """``B=x.0+y.0:1..64`` and the like; inputs by name or position. Raises ValueError."""
    return [_parsed(t, {n: k for k, n in enumerate(parameters)}) for t in texts]


def _parsed(text: str, parameters: Mapping[str, int]) -> DynamicDim:
    name, equals, rest = text.partition("=")
    places, _, bounds = rest.partition(":")
    low, dots, high = bounds.partition("..")
    form = "such as B=x.0 or B=x.0+y.0:1..64"
    if not equals or not name.isidentifier() or bool(bounds) != bool(dots):
        raise ValueError(f"--dynamic {text}: not of the form NAME=INPUT.DIM:LOW..HIGH, {form}")
    found = []
    for place in places.split("+"):
        which, _, at = place.rpartition(".")
        position = int(which) if which.isdecimal() else parameters.get(which, -1)
        if position < 0 or not at.isdecimal():
            known = ", ".join(parameters) or "0, 1, ..."
            raise ValueError(f"--dynamic {text}: no input `{which or place}`; inputs: {known}")
        found.append((position, int(at)))
    if not bounds:
        return DynamicDim(name, tuple(found))
    if not (low.isdecimal() and high.isdecimal() and 1 <= int(low) < int(high)):
        raise ValueError(f"--dynamic {text}: {bounds} is no range of sizes, {form}")
    return DynamicDim(name, tuple(found), int(low), int(high))
