"""What the elements of a tile hold beyond the end of its loop, when that is a known constant.

A tile may reach past the end of its loop's range. Loads give their ``else`` value there, and masks
built of ``iota`` and ``cmp`` are false. Where what is combined along the tile then is the neutral
element, its size does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ke_ir.expr import Bin, Call, Dim, Expr, Num, Var, variables
from ke_ir.ir import LoopVar
from ke_ir.ops import (
    Accumulate,
    Binary,
    Broadcast,
    Cast,
    Cmp,
    Dot,
    Expand,
    Full,
    Iota,
    Load,
    Permute,
    Reduce,
    Reshape,
    Scan,
    Select,
    Store,
    Unary,
)
from ke_ir.ops.base import Operand
from ke_ir.rewrites.body import Facts
from ke_ir.types import DType

Constant = int | float | bool

SHAPE_OPS = (Broadcast, Cast, Expand, Permute, Reshape)
"""Ops whose elements are those of their operand."""


class Padding:
    """Constants beyond the end of one tiled loop variable, by value.

    Without ``loads``, loads there are taken to read elements like any others.
    """

    def __init__(self, f: Facts, var: LoopVar, loads: bool = True) -> None:
        self.loads = loads
        axis = f.axes.of_loop(var.name)
        assert axis is not None
        self.f, self.var, self.axis = f, var, axis
        self.above_lowest: set[str] = set()
        """Values known to exceed minus infinity wherever they matter."""
        self._known: dict[str, Constant | None] = {}

    def value(self, x: Operand) -> Constant | None:
        """What ``x`` is at every place beyond the end; None when that is not one constant."""
        if not isinstance(x, str):
            return x
        if x not in self._known:
            self._known[x] = None  # a carried value, if it is met again
            self._known[x] = self._op(x)
        return self._known[x]

    def _op(self, x: str) -> Constant | None:
        op = self.f.definitions.get(x)
        match op:
            case Full(value=v):
                return v if isinstance(v, int | float) else None
            case Load(coords=coords, fill=fill):
                return fill if self.is_outside(coords) else None
            case Cast(x=y, dtype=d):
                return _cast(self.value(y), d)
            case Broadcast(x=y) | Expand(x=y) | Permute(x=y) | Reshape(x=y):
                return self.value(y)
            case Cmp(pred=pred, x=a, y=b):
                return self._compare(pred, a, b)
            case Select(c=c, x=a, y=b):
                got = self.value(c)
                return None if got is None else self.value(a if got else b)
            case Unary(fn=fn, x=a):
                return _apply(fn, self.value(a))
            case Binary(fn=fn, x=a, y=b):
                return self._binary(fn, a, b)
            case Reduce(kind=kind, x=a, dim=dim) if self.f.axes.of(a)[dim] != self.axis:  # type: ignore[arg-type]
                got = self.value(a)
                return got if got is not None and got == neutral(kind, self._dtype(a)) else None
        return None

    def _dtype(self, x: Operand) -> DType:
        return self.f.types[str(x)].dtype

    def _binary(self, fn: str, a: Operand, b: Operand) -> Constant | None:
        u, v = self.value(a), self.value(b)
        if fn == "and" and (u is False or v is False):
            return False
        if fn == "or" and (u is True or v is True):
            return True
        if fn == "sub" and u == -math.inf and origin(self.f, b) in self.above_lowest:
            return u
        return _apply(fn, u, v)

    def _compare(self, pred: str, a: Operand, b: Operand) -> bool | None:
        if self._is_index(a) and self._is_bound(b):
            return {"lt": False, "ge": True}.get(pred)
        if self._is_index(b) and self._is_bound(a):
            return {"gt": False, "le": True}.get(pred)
        if self._is_index(a) and self._is_before(b):
            return {"lt": False, "le": False, "gt": True, "ge": True}.get(pred)
        if self._is_index(b) and self._is_before(a):
            return {"gt": False, "ge": False, "lt": True, "le": True}.get(pred)
        u, v = self.value(a), self.value(b)
        got = None if u is None or v is None else _apply(pred, u, v)
        return None if got is None else bool(got)

    def is_range_test(self, x: Operand) -> bool:
        """True if ``x`` holds exactly where the index is in the loop's range."""
        op = self.f.definitions.get(origin(self.f, x))
        if not isinstance(op, Cmp):
            return False
        a, b = (op.x, op.y) if op.pred == "lt" else (op.y, op.x)
        return op.pred in ("lt", "gt") and self._is_index(a) and self._is_bound(b)

    def _is_index(self, x: Operand) -> bool:
        op = self.f.definitions.get(origin(self.f, x))
        return isinstance(op, Iota) and op.index == self.var.name

    def _is_bound(self, x: Operand) -> bool:
        """True if ``x`` is what the loop runs to."""
        hi = self.var.hi
        if not isinstance(x, str):
            return isinstance(hi, Num) and x == hi.value
        name = origin(self.f, x)
        if isinstance(hi, Var) and hi.name == name:
            return True
        op = self.f.definitions.get(name)
        if not isinstance(op, Full):
            return False
        value = Num(op.value) if isinstance(op.value, int | float) else op.value
        return value == hi

    def _is_before(self, x: Operand) -> bool:
        """True for the indices of a tile at whose end, or of a loop at whose end, this one ends."""
        op = self.f.definitions.get(origin(self.f, x))
        if not isinstance(op, Iota) or op.index == self.var.name:
            return False
        if self.var.hi not in (Call("end", (Var(op.index),)), self.f.loops[op.index].var.hi):
            return False
        other = self.f.axes.of_loop(op.index)
        # Beyond the end of that tile the comparison may differ: nothing may combine along it.
        return other is None or not self.f.axes.combined(other)

    def is_outside(self, coords: tuple[Expr, ...]) -> bool:
        """True if an access is outside the tensor, or the loop, wherever the tile is beyond."""
        if not self.loads:
            return False
        if any(self.var.name in variables(c) for c in coords):
            return True
        for c in coords:
            if isinstance(c, Var) and c.name not in self.f.loops:
                got = self.value(c.name)
                if got is not None and got < 0:
                    return True
        return False

    def neutral(self, op: Reduce | Scan | Dot) -> bool:
        """True if what lies beyond the end does not count in ``op``, which combines there."""
        if isinstance(op, Dot):
            a, b = self.value(op.a), self.value(op.b)
            if a is not None and b is not None:
                return a * b == 0
            return (a == 0 and self._is_read(op.b)) or (b == 0 and self._is_read(op.a))
        if isinstance(op, Scan) and op.reverse:
            return self.value(op.x) == neutral(op.kind, self._dtype(op.x))
        if isinstance(op, Scan):
            return True
        got = self.value(op.x)
        return got is not None and got == neutral(op.kind, self._dtype(op.x))

    def _is_read(self, x: Operand) -> bool:
        """True for elements of a tensor as they are: finite, since the program's inputs are."""
        return isinstance(self.f.definitions.get(origin(self.f, x, casts=True)), Load)

    def unwritten(self, op: Store | Accumulate) -> bool:
        """True if a write has no effect from beyond the end."""
        if self.is_outside(op.coords):
            return True
        if isinstance(op, Accumulate) and (got := self.value(op.x)) is not None:
            kind = {"add": "sum"}.get(op.kind, op.kind)
            tensor = self.f.kernel.tensors[op.tensor]
            return got == neutral(kind, tensor.dtype)
        return False


def origin(f: Facts, x: Operand, casts: bool = False) -> str:
    """The value whose elements ``x`` has, in another shape or (of an integer) another dtype.

    With ``casts``, of any value in another dtype.
    """
    while isinstance(x, str):
        op = f.definitions.get(x)
        if (
            isinstance(op, Cast)
            and not casts
            and not (op.dtype.is_int and f.types[str(op.x)].dtype.is_int)
        ):
            return x
        if not isinstance(op, SHAPE_OPS):
            return x
        x = op.x
    return ""


def neutral(kind: str, d: DType) -> Constant | None:
    """The neutral element of a reduction; for a position, what is never first."""
    lowest = -math.inf if d.is_float else -(1 << (d.bits - 1))
    highest = math.inf if d.is_float else (1 << (d.bits - 1)) - 1
    if d is DType.U8:
        lowest, highest = 0, 255
    return {
        "sum": 0, "prod": 1, "max": lowest, "min": highest, "any": False, "all": True,
        "argmax": lowest, "argmin": highest,
    }.get(kind)  # fmt: skip


def _cast(v: Constant | None, d: DType) -> Constant | None:
    if v is None or (isinstance(v, float) and not d.is_float):
        return None
    return float(v) if d.is_float else bool(v) if d.is_bool else int(v)


_PYTHON: dict[str, Callable[..., Constant]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
    "min": min, "max": max, "neg": lambda a: -a, "abs": abs,
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
    "exp": lambda a: 0.0 if a == -math.inf else math.exp(a),
    "exp2": lambda a: 0.0 if a == -math.inf else 2.0**a,
    "sqrt": math.sqrt, "tanh": math.tanh, "erf": math.erf, "sin": math.sin, "cos": math.cos,
    "not": lambda a: not a,
}  # fmt: skip


def _apply(fn: str, *args: Constant | None) -> Constant | None:
    """An operation on constants; None where it is unknown, overflows or is not a number."""
    known = [a for a in args if a is not None]
    if fn not in _PYTHON or len(known) < len(args) or (fn == "not" and known[0] not in (0, 1)):
        return None
    try:
        got = _PYTHON[fn](*known)
    except (ValueError, OverflowError):
        return None
    return None if isinstance(got, float) and math.isnan(got) else got


def divides(f: Facts, tile: int, v: LoopVar) -> bool:
    """True if the loop's range is a multiple of ``tile`` at every size, so that none is beyond."""
    return tile == 1 or (
        _multiple(f, v.lo, tile) and _multiple(f, v.hi, tile)
        if f.extent(v) is None
        else (f.extent(v) or 0) % tile == 0
    )


def _multiple(f: Facts, e: Expr, n: int) -> bool:
    match e:
        case Num(int() as size):
            return size % n == 0
        case Dim():
            got = f.span(e)
            return got.lo is not None and got.lo == got.hi and got.lo % n == 0
        case Bin("+" | "-", a, b):
            return _multiple(f, a, n) and _multiple(f, b, n)
        case Bin("*", a, b):
            return _multiple(f, a, n) or _multiple(f, b, n)
        case Call("min" | "max", (a, b)):
            return _multiple(f, a, n) and _multiple(f, b, n)
        case Call("begin" | "end" as fn, (Var(name),)):
            of = f.loops[name].var
            aligned = of.step % n == 0 and _multiple(f, of.lo, n)
            return aligned and (fn == "begin" or _multiple(f, of.hi, n))
    return False
