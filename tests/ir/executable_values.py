"""Values of a kernel under construction: their ranges and rounding errors.

Running error analysis, first order: each operation passes on the errors of its operands and adds
that of its own rounding, in any order of evaluation that a target may choose.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ke_ir.expr import Expr
from ke_ir.ir import Kernel, Module, Param
from ke_ir.numerics import round_to
from ke_ir.ops import Binary, Cast, Expand, Full, Load, Op, Reduce
from ke_ir.scope import TypeScope
from ke_ir.types import DType, TileType

Draw = Callable[[Any], Any]
Array = np.ndarray[Any, Any]

F32, I32, I1 = DType.F32, DType.I32, DType.I1
SINGLE = 2.0**-24
NARROW = (DType.F16, DType.BF16, DType.F8E5M2, DType.F8E4M3)
# Relative error of a product at each precision of `dot`: worst operands, and tf32 cut off.
PRODUCT = {"ieee": SINGLE, "tf32": 2.0**-9, "tf32_even": 2.0**-9, "tf32x3": 2.0**-19,
           "bf16x3": 2.0**-14, "bf16x6": 2.0**-20}  # fmt: skip
# (function, least and largest argument that keeps it tame, largest slope there)
TAME: dict[str, tuple[float, float, Callable[[float, float], float]]] = {
    "exp": (-20, 3, lambda lo, hi: math.exp(hi)),
    "exp2": (-20, 4, lambda lo, hi: math.log(2) * 2**hi),
    "log": (0.25, 1e4, lambda lo, hi: 1 / lo),
    "log2": (0.25, 1e4, lambda lo, hi: 1.5 / lo),
    "sqrt": (0.25, 1e4, lambda lo, hi: 0.5 / math.sqrt(lo)),
    "rsqrt": (0.25, 1e4, lambda lo, hi: 0.5 * lo**-1.5),
    "sin": (-8, 8, lambda lo, hi: 1.0),
    "cos": (-8, 8, lambda lo, hi: 1.0),
    "tan": (-1.25, 1.25, lambda lo, hi: 1 / math.cos(max(-lo, hi)) ** 2),
    "tanh": (-20, 20, lambda lo, hi: 1.0),
    "sigmoid": (-20, 20, lambda lo, hi: 0.25),
    "erf": (-20, 20, lambda lo, hi: 1.2),
}
MONOTONE: dict[str, Callable[[float], float]] = {
    "exp": math.exp, "exp2": lambda x: 2.0**x, "log": math.log, "log2": math.log2,
    "sqrt": math.sqrt, "rsqrt": lambda x: x**-0.5, "tan": math.tan,
}  # fmt: skip


@dataclass(frozen=True)
class V:
    """A value of the kernel: its type, the range of its elements, and its absolute error."""

    name: str
    type: TileType
    lo: float
    hi: float
    err: float = 0.0

    @property
    def size(self) -> float:
        return max(abs(self.lo), abs(self.hi))


@dataclass(frozen=True)
class ExecutableKernel:
    """A kernel with what it takes to run it and to judge the result."""

    kernel: Kernel
    domains: dict[str, tuple[float, float]]
    """Range of each input."""
    errors: dict[str, float]
    """For each output, a bound on the absolute error of a run in the declared dtypes."""
    seed: int

    @property
    def module(self) -> Module:
        return Module((self.kernel,))

    def sizes(self) -> list[dict[str, int]]:
        """The default sizes and, where dims are ranges, smaller ones: the bounds hold there too."""
        default = self.kernel.sizes()
        ranged = {d.name: default[d.name] for d in self.kernel.dims if d.is_range}
        if not ranged:
            return [default]
        fewer = {d: max(1, n - 1) for d, n in ranged.items()}
        return [default, {**default, **dict.fromkeys(ranged, 1)}, {**default, **fewer}]

    def inputs(self, dims: dict[str, int] | None = None) -> dict[str, Array]:
        """Inputs by name, in their declared dtypes, at the default sizes unless given."""
        rng = np.random.default_rng(self.seed)
        sizes = self.kernel.sizes(dims)
        return {p.name: self._input(rng, p, p.type.sizes(sizes)) for p in self.kernel.inputs}

    def _input(self, rng: np.random.Generator, p: Param, shape: tuple[int, ...]) -> Array:
        low, high = self.domains[p.name]
        d = p.type.dtype
        if not d.is_float:
            return rng.integers(int(low), int(high) + 1, shape).astype(d.numpy())
        return round_to(rng.uniform(low, high, shape).astype(np.float32), d).astype(d.numpy())


class Values:
    """Adds ops to ``body`` and says what is known of their results."""

    scope: TypeScope

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.count = 0
        self.body: list[Any] = []
        self.pool: list[V] = []
        self.domains: dict[str, tuple[float, float]] = {}

    def pick(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def chance(self, one_in: int) -> bool:
        return self.draw(st.integers(1, one_in)) == 1

    def add(self, op: Op, lo: float, hi: float, err: float = 0.0) -> V:
        self.count += 1
        named: Any = replace(op, result=f"v{self.count}")
        t = self.scope.define(named)
        assert t is not None
        self.body.append(named)
        return V(named.result, t, lo, hi, err)

    def keep(self, v: V) -> V:
        self.pool.append(v)
        return v

    def load(self, p: Param, coords: tuple[Expr, ...], fill: Any) -> V:
        t = TileType(p.type.dtype, self.scope.access_shape(coords))
        low, high = self.domains[p.name]
        return self.add(Load(p.name, coords, t, fill), min(low, fill), max(high, fill))

    def rounding(self, d: DType, size: float, operations: float = 1.0) -> float:
        """Error of rounding to ``d`` results of this size, computed in float32 at least."""
        if not d.is_float:
            return 0.0
        tiny = {DType.F16: 2.0**-25, DType.F8E5M2: 2.0**-17, DType.F8E4M3: 2.0**-10}
        return operations * (d.unit_roundoff + SINGLE / 8) * size + tiny.get(d, 1e-38)

    def clamp(self, v: V, lo: float, hi: float) -> V:
        """Into a range, where the value is not known to be there."""
        if v.lo < lo:
            top = max(v.hi, lo)
            v = self.add(Binary("max", v.name, self.literal(v, lo)), lo, top, v.err)
        if v.hi > hi:
            v = self.add(Binary("min", v.name, self.literal(v, hi)), min(v.lo, hi), hi, v.err)
        return v

    def literal(self, v: V, x: float) -> Any:
        return int(x) if v.type.dtype.is_int else float(x)

    def cast(self, v: V, d: DType) -> V:
        if v.type.dtype is d:
            return v
        if d.is_int and v.type.dtype.is_int:
            v = self.clamp(v, *((0, 100) if d is DType.U8 else (-100, 100)))
        exact = d.is_float and v.type.dtype.is_float and d.bits >= v.type.dtype.bits
        exact = exact and not (v.type.dtype is DType.BF16 and d is DType.F16)
        exact = exact or (v.size <= 256 and not v.type.dtype.is_float and d.bits >= 16)
        err = v.err + (0.0 if exact else self.rounding(d, v.size))
        return self.add(Cast(v.name, d), math.floor(v.lo) if d.is_int else v.lo, v.hi + err, err)

    def to_float(self, v: V) -> V:
        """As f32, within a range that leaves room."""
        return self.clamp(self.cast(v, F32), -64, 64)

    def scalar(self, v: V) -> V:
        """One number that depends on every element: the largest, or the least."""
        while v.type.rank:
            kind = self.pick("max", "min")
            v = self.add(Reduce(kind, v.name, self.draw(st.integers(0, v.type.rank - 1))),
                         v.lo, v.hi, v.err)  # fmt: skip
        return v

    def bounded(self, v: V) -> V:
        return self.clamp(v, 0 if v.type.dtype is DType.U8 else -50, 50)

    def as_number(self, v: V, d: DType) -> V:
        return self.add(Cast(v.name, d), 0, 1)

    def arithmetic(self, fn: str, a: V, b: V) -> V:
        d = a.type.dtype
        if fn == "mul":
            ends = [x * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
            err = a.size * b.err + b.size * a.err + a.err * b.err
            lo, hi = min(ends), max(ends)
        elif fn == "div":
            ends = [x / y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
            least = min(abs(b.lo), abs(b.hi))
            err = a.err / least + a.size * b.err / least**2
            lo, hi = min(ends), max(ends)
        elif fn in ("max", "min"):
            pick = max if fn == "max" else min
            lo, hi, err = pick(a.lo, b.lo), pick(a.hi, b.hi), max(a.err, b.err)
        else:
            s = 1 if fn == "add" else -1
            lo, hi = a.lo + min(s * b.lo, s * b.hi), a.hi + max(s * b.lo, s * b.hi)
            err = a.err + b.err
        if fn not in ("max", "min"):
            err += self.rounding(d, max(abs(lo), abs(hi)), 4 if fn == "div" else 1)
        return self.add(Binary(fn, a.name, b.name), lo, hi, err)

    def combined(self, v: V, kind: str, dim: int, make: Callable[[str, str, int], Op]) -> V:
        """A sum or product along a dimension, with the error of any order of evaluation."""
        v = self.cast(v, I32) if v.type.dtype.is_int else self.cast(v, F32)
        n = v.type.shape[dim]
        if kind == "sum":
            v = self.bounded(v)
            lo, hi = min(v.lo, n * v.lo), max(v.hi, n * v.hi)
            err = n * (v.err + self.rounding(v.type.dtype, n * v.size))
            return self.add(make(kind, v.name, dim), lo, hi, err)
        v = self.clamp(v, *((0, 1) if v.type.dtype is I32 else (0.75, 1.25)))
        size = max(1.0, v.hi) ** n
        err = n * size * (v.err / 0.75 + self.rounding(v.type.dtype, 1.0))
        return self.add(make(kind, v.name, dim), min(1, v.lo) ** n, size, err)

    def partner(self, v: V) -> V:
        """A second operand of the dtype: of equal shape, stretching, or a scalar."""
        like = [w for w in self.pool if w.type.dtype is v.type.dtype]
        w = self.bounded(self.draw(st.sampled_from(like)) if like else v)
        if w.type.shape == v.type.shape:
            return w
        if w.type.rank == 1 and v.type.rank == 2 and w.type.shape[0] in v.type.shape:
            dim = 0 if w.type.shape[0] == v.type.shape[1] else 1
            return self.add(Expand(w.name, dim), w.lo, w.hi, w.err)
        return self.scalar(w)

    def shape_like(self) -> tuple[int, ...]:
        return self.draw(st.sampled_from(self.pool)).type.shape

    def tiled(self) -> V:
        found = [v for v in self.pool if v.type.rank and v.type.dtype is not I1]
        if not found:
            self.keep(self.add(Full(0.5, TileType(F32, (3, 4))), 0.5, 0.5))
            return self.pool[-1]
        return self.draw(st.sampled_from(found))
