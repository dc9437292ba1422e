"""Recognises sums of products that a matrix unit computes, and emits them as ``dot``."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace

from ke_ir.derive.builder import Val
from ke_ir.derive.node import Node, free_indices
from ke_ir.derive.padding import Padding, is_affine
from ke_ir.derive.reductions import Accumulator, Nest
from ke_ir.expr import Bin, Expr, Neg, Num, Range, Reduce, Ref
from ke_ir.ir import LoopVar
from ke_ir.ops import Dot
from ke_ir.ops.shape import dot_dtype
from ke_ir.types import DType, TensorType

SMALLEST = 8
"""Fewer rows, columns or terms than this are not worth a matrix unit, which pads them to 16."""


@dataclass(frozen=True)
class Contraction:
    """``outer * sum[k](a * b)``: ``rows`` are indices of ``a`` alone, ``columns`` of ``b`` alone.

    ``outer`` are the factors without a reduced index.
    """

    node: Node
    a: Expr
    b: Expr
    outer: tuple[Expr, ...]
    rows: tuple[Range, ...]
    columns: tuple[Range, ...]
    terms: tuple[Range, ...]


def factors(e: Expr) -> list[Expr]:
    """Factors of a product; a quotient gives the reciprocal of its divisor."""
    match e:
        case Bin("*", lhs, rhs):
            return [*factors(lhs), *factors(rhs)]
        case Bin("/", Num(1 | 1.0), _):
            return [e]
        case Bin("/", lhs, rhs):
            return [*factors(lhs), Bin("/", Num(1.0), rhs)]
        case Neg(arg):
            return [Num(-1), *factors(arg)]
    return [e]


def product(es: Sequence[Expr]) -> Expr:
    """The product of factors; reciprocals divide."""
    out: Expr | None = None
    for e in sorted(es, key=lambda e: isinstance(e, Bin) and e.op == "/"):
        match e:
            case Bin("/", Num(1 | 1.0), rhs) if out is not None:
                out = Bin("/", out, rhs)
            case _:
                out = e if out is None else Bin("*", out, e)
    return Num(1) if out is None else out


def recognise(node: Node, extent: Callable[[Range], int | None]) -> Contraction | None:
    """The contraction that a node is, or None. ``extent`` gives sizes where they are known."""
    e = node.expr
    if not isinstance(e, Reduce) or e.kind != "sum":
        return None
    reduced = {r.name for r in e.ranges}
    # Bounds that depend on an index make it a scalar, which is then no row or column.
    fixed = {v for r in e.ranges for b in (r.lo, r.hi) if b is not None for v in free_indices(b)}
    outside = [r for r in node.indices if r.name not in fixed]
    names = {r.name for r in outside}
    inner = [f for f in factors(e.body) if reduced & set(free_indices(f))]
    outer = [f for f in factors(e.body) if not reduced & set(free_indices(f))]
    uses = [frozenset(names & set(free_indices(f))) for f in inner]
    for i, left in enumerate(uses):
        for j, right in enumerate(uses):
            if i != j and left - right and right - left:
                return _split(node, e, inner, outer, uses, (i, j), extent)
    return None


def _split(
    node: Node,
    e: Reduce,
    inner: list[Expr],
    outer: list[Expr],
    uses: list[frozenset[str]],
    pair: tuple[int, int],
    extent: Callable[[Range], int | None],
) -> Contraction | None:
    sides: tuple[list[Expr], list[Expr]] = ([], [])
    i, j = pair
    for f, u in zip(inner, uses, strict=True):
        side = 0 if u <= uses[i] else 1 if u <= uses[j] else None
        if side is None:
            return None
        sides[side].append(f)
    first, second = uses[i] - uses[j], uses[j] - uses[i]
    order = [r.name for r in node.indices]
    if min(map(order.index, second)) < min(map(order.index, first)):
        sides, first, second = (sides[1], sides[0]), second, first
    a, b = product(sides[0]), product(sides[1])
    rows = tuple(r for r in node.indices if r.name in first)
    columns = tuple(r for r in node.indices if r.name in second)
    both = set(free_indices(a)) & set(free_indices(b))
    terms = tuple(r for r in e.ranges if r.name in both)
    if not terms or any(_total(rs, extent) < SMALLEST for rs in (rows, columns, terms)):
        return None
    return Contraction(node, a, b, tuple(outer), rows, columns, terms)


def _total(rs: Sequence[Range], extent: Callable[[Range], int | None]) -> int:
    n = 1
    for r in rs:
        n *= extent(r) or SMALLEST
    return n


def stored_dtype(e: Expr, tensors: Mapping[str, TensorType], local: Container[str]) -> DType | None:
    """Dtype of a factor that is a plain element of a tensor; None for anything computed."""
    if not isinstance(e, Ref) or e.tensor not in tensors or e.tensor in local:
        return None
    plain = e.fill is None or (isinstance(e.fill, Num) and e.fill.value == 0)
    return tensors[e.tensor].dtype if plain and all(map(is_affine, e.indices)) else None


_HALF = (DType.F16, DType.BF16)
_WIDER = {
    DType.F8E4M3: (*_HALF, DType.F32, DType.F64), DType.F8E5M2: (*_HALF, DType.F32, DType.F64),
    DType.F16: (DType.F32, DType.F64), DType.BF16: (DType.F32, DType.F64), DType.F32: (DType.F64,),
}  # fmt: skip


def widens(a: DType, b: DType) -> bool:
    """True if every value of ``a`` is one of ``b``, both floats, or the two are the same."""
    return a is b or b in _WIDER.get(a, ())


def common_dtype(a: DType | None, b: DType | None) -> DType | None:
    """Dtype of at most 16 bits in which both operands are exact; None if there is none."""
    if a is b:
        return a
    if a is None or b is None:
        return None
    return next((c for c in _HALF if widens(a, c) and widens(b, c)), None)


class DotProduct(Accumulator):
    """A contraction whose rows and columns are tiled by the loop variables named."""

    def __init__(self, nest: Nest, c: Contraction, row: str, column: str, precision: str) -> None:
        self.k, self.c, self.precision = nest, c, precision
        assert isinstance(c.node.expr, Reduce)
        self.e = Reduce("sum", c.node.expr.ranges, Num(0))
        self.row, self.column = row, column
        self.operand = self.dtype = DType.F32

    def probe(self, loops: Sequence[LoopVar]) -> None:
        kinds = [stored_dtype(e, self.k.tensors, self.k.values)
                 for e in (self.c.a, self.c.b)]  # fmt: skip
        plain = common_dtype(*kinds)
        if plain is None or (plain.is_float and dot_dtype(plain) is not self.k.real):
            plain = self.k.real
        self.operand, self.dtype = plain, dot_dtype(plain)

    @property
    def axes(self) -> tuple[str, ...]:
        return self.k.b.ordered((self.row, self.column))

    def start(self) -> list[Val]:
        zero = 0.0 if self.dtype.is_float else 0
        return [self.k.b.full(zero, self.dtype, self.axes)]

    def step(self, carried: list[Val], loops: Sequence[LoopVar]) -> list[Val]:
        b = self.k.b
        (tiled,) = (v for v in loops if v.tile is not None)
        safe = self.is_finite_at(self.c.b, tiled.name)
        a = self.side(self.c.a, tiled, (self.row, tiled.name), zero=True)
        with b.axis_order(tiled.name, self.column):
            other = self.side(self.c.b, tiled, (tiled.name, self.column), zero=not safe)
        dot = Dot(str(a.x), str(other.x), str(carried[0].x))
        if self.operand is DType.F32:
            dot = replace(dot, precision=self.precision)
        return [b.emit(dot, self.dtype, self.axes)]

    def is_finite_at(self, e: Expr, out: str) -> bool:
        """True if ``e`` is a known number beyond the range of ``out``."""
        import math

        v = Padding(frozenset([out]), self.k.where, self.k.pad).value(e)
        return v is not None and math.isfinite(v)

    def side(self, e: Expr, tiled: LoopVar, axes: tuple[str, str], zero: bool) -> Val:
        """One operand; 0 (or, where 0 is not needed, anything) beyond the loop's range."""
        k = self.k
        stored = stored_dtype(e, k.tensors, k.values)
        if stored is not None and widens(stored, self.operand):
            assert isinstance(e, Ref)
            return k.b.spread(k.b.cast(k.raw(e), self.operand), axes)
        if zero:
            v = k.masked(e, [tiled], 0.0, self.operand)
        else:
            v = k.b.cast(k.value(e), self.operand)
        return k.b.spread(k.b.cast(v, self.operand), axes)

    def finish(self, carried: list[Val]) -> Val:
        out = carried[0]
        k = self.k
        for f in self.c.outer:
            match f:
                case Bin("/", Num(1 | 1.0), rhs):
                    out = k.b.binary("div", k.b.cast(out, k.real), k.floating(rhs), k.real)
                case _:
                    out = k.product(out, k.value(f))
        return k.b.spread(out, self.axes)
