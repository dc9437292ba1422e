"""Loads: subscripts of an op become coordinates of a kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ke_ir.derive.builder import Builder, Val, coordinate
from ke_ir.derive.normal import guarded
from ke_ir.derive.padding import Constant, is_affine, literal
from ke_ir.derive.scalar import Scalar
from ke_ir.expr import Bin, Call, Dim, Expr, Neg, Num, Ref, Var, substitute, variables
from ke_ir.intervals import ANY, Interval, interval
from ke_ir.ops import Load
from ke_ir.types import DType, TensorType, TileType


def dtype_span(d: DType) -> Interval:
    """Values of an integer dtype."""
    if not d.is_int:
        return ANY
    if d is DType.U8:
        return Interval(0, 255)
    return Interval(-(1 << (d.bits - 1)), (1 << (d.bits - 1)) - 1)


def representable(x: Constant, d: DType) -> bool:
    """True if the dtype holds this number exactly."""
    if d.is_bool:
        return x in (0, 1)
    if d.is_int:
        span = dtype_span(d)
        return isinstance(x, int) and (span.lo or 0) <= x <= (span.hi or 0)
    if x == 0 or math.isinf(x):
        return x == 0 or d is not DType.F8E4M3
    import numpy as np

    with np.errstate(all="ignore"):
        return bool(np.asarray(float(x)).astype(d.numpy()).astype(np.float64) == float(x))


class Access(Scalar):
    """Elements of tensors. ``fill`` is what loads without an ``else`` give outside."""

    def __init__(
        self,
        builder: Builder,
        real: DType,
        sizes: dict[str, Interval],
        tensors: Mapping[str, TensorType],
    ) -> None:
        super().__init__(builder, real, sizes)
        self.tensors = tensors
        self.fill: Constant = 0
        self.in_coordinate = False
        self.read: set[str] = set()

    def pad(self, tensor: str) -> Constant:
        """What a load of this tensor without an ``else`` gives outside."""
        dtype = self.tensors[tensor].dtype
        wanted = -1 if self.in_coordinate else self.fill
        if dtype.is_float:
            wanted = float(wanted)
        return wanted if representable(wanted, dtype) else 0

    def load(self, e: Ref) -> Val:
        """The element of a tensor, widened to the dtype in which the op computes."""
        raw = self.raw(e)
        if raw.dtype.is_float:
            return self.b.cast(raw, self.real)
        if raw.dtype.is_bool or raw.dtype in (DType.I32, DType.I64):
            return raw
        return self.b.cast(raw, DType.I32)

    def raw(self, e: Ref) -> Val:
        """The element as it is stored."""
        t = self.tensors[e.tensor]
        if self.always_outside(e):
            assert e.fill is not None
            return self.value(e.fill)
        fill = self.pad(e.tensor) if e.fill is None else literal(e.fill)
        if fill is None or not representable(fill, t.dtype):
            assert e.fill is not None
            inner = Ref(e.tensor, e.indices)
            return self.value(guarded(inner, e.indices, list(t.shape), e.fill))
        self.read.add(e.tensor)
        coords, axes = self.coordinates(e.indices)
        shape = self.b.shape(axes)
        fill = bool(fill) if t.dtype.is_bool else float(fill) if t.dtype.is_float else int(fill)
        op = Load(e.tensor, coords, TileType(t.dtype, shape), fill or 0)
        v = self.b.emit(op, t.dtype, axes, dtype_span(t.dtype), e.tensor)
        return self.b.permuted(v, self.b.ordered(axes))

    def always_outside(self, e: Ref) -> bool:
        """True if no index of the loops is inside the tensor, which the verifier rejects."""
        if e.fill is None:
            return False
        for i, n in zip(e.indices, self.tensors[e.tensor].shape, strict=True):
            if is_affine(i):
                where = interval(substitute(i, self.where), self.fixed, self.b.spans)
                top = interval(n, self.fixed, {}).hi
                if top is not None and where.outside(0, top):
                    return True
        return False

    @property
    def fixed(self) -> dict[str, int]:
        """Sizes of the dims that are not run-time arguments."""
        return {n: s.lo for n, s in self.sizes.items() if s.lo is not None and s.lo == s.hi}

    def coordinates(self, indices: Sequence[Expr]) -> tuple[tuple[Expr, ...], tuple[str, ...]]:
        """Coordinates of the kernel, and the axes of the tile that they address."""
        outer, self.in_coordinate = self.in_coordinate, True
        values: dict[int, Val] = {
            k: self.value(i) for k, i in enumerate(indices) if not is_affine(i)
        }
        # An index tile beside an integer tile over the same axis would give their outer product.
        while True:
            taken = {a for v in values.values() for a in v.axes}
            more = [
                k for k, i in enumerate(indices) if k not in values and taken & set(self.axes(i))
            ]
            if not more:
                break
            values |= {k: self.value(indices[k]) for k in more}
        self.in_coordinate = outer
        common = self.b.ordered(taken)
        wide = any(v.dtype is DType.I64 for v in values.values() if v.axes)
        dtype = DType.I64 if wide else DType.I32
        coords: list[Expr] = []
        axes: list[str] = []
        for k, i in enumerate(indices):
            if k not in values:
                c = substitute(i, self.where)
                axes += [v for v in variables(c) if v in self.b.tiles and v not in axes]
            elif values[k].axes:
                v = values[k]
                c = Var(str(self.b.stretched(v, common, dtype)))
                axes += [a for a in common if a not in axes]
            else:
                c = self.scalar(values[k])
            coords.append(c)
        return tuple(coords), tuple(axes)

    def axes(self, e: Expr) -> tuple[str, ...]:
        """Axes of the tile that an affine expression of the op's indices is."""
        names = variables(substitute(e, self.where))
        return tuple(n for n in names if n in self.b.tiles)

    def scalar(self, v: Val) -> Expr:
        """A rank-0 integer as a coordinate or bound."""
        if isinstance(v.x, str):
            self.scalars[v.x] = v
        return coordinate(v)

    def bound(self, e: Expr) -> Expr:
        """A bound of a loop: sizes, scalar indices, and integers read from tensors."""
        match e:
            case Num(int()) | Dim():
                return e
            case Var(name):
                return self.where[name]
            case Neg(arg):
                return Neg(self.bound(arg))
            case Bin(op, lhs, rhs) if op in ("+", "-", "*") or (op in ("//", "%") and is_affine(e)):
                return Bin(op, self.bound(lhs), self.bound(rhs))
            case Call("min" | "max" as fn, (x, y)):
                return Call(fn, (self.bound(x), self.bound(y)))
        return self.scalar(self.value(e))
