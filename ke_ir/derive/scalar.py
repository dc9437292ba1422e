"""Turns the expressions of an op into tile values.

Floats compute in f32 (f64 if any tensor of the op is f64); integers in i32 as long as the bounds
known from dims and dtypes allow, else in i64; conditions are i1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from ke_ir.derive.builder import Builder, Val, fits_i32
from ke_ir.expr import COMPARISONS, INT_OPS, Bin, Call, Dim, Expr, Neg, Num, Reduce, Ref, Var
from ke_ir.intervals import ANY, Interval, interval
from ke_ir.types import DType

_PREDICATES = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "//": "floordiv", "%": "mod"}
_ROUNDING = ("floor", "ceil", "round", "trunc")
_FOLD: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b,
}  # fmt: skip


def int_dtype(span: Interval) -> DType:
    return DType.I32 if fits_i32(span) else DType.I64


class Scalar(ABC):
    """Elementwise expressions. ``Access`` adds tensors and ``Reductions`` reductions.

    ``where`` gives the kernel coordinate of each index of the op, ``values`` the nodes computed
    in this kernel, ``scalars`` the rank-0 integers that bounds and coordinates name.
    """

    def __init__(self, builder: Builder, real: DType, sizes: dict[str, Interval]) -> None:
        self.b = builder
        self.real = real
        self.sizes = sizes
        self.where: dict[str, Expr] = {}
        self.values: dict[str, Val] = {}
        self.scalars: dict[str, Val] = {}

    @abstractmethod
    def load(self, e: Ref) -> Val:
        """The value of an element of a tensor."""

    @abstractmethod
    def reduction(self, e: Reduce) -> Val:
        """The value of a reduction that stands inside an expression."""

    def value(self, e: Expr) -> Val:
        """The value of an expression over the op's indices."""
        match e:
            case Num(x):
                dtype = self.real if isinstance(x, float) else int_dtype(Interval(int(x), int(x)))
                return Val(x, dtype, (), ANY if isinstance(x, float) else Interval(int(x), int(x)))
            case Dim():
                return self.size(e)
            case Var(name):
                return self.index(self.where[name])
            case Neg(arg):
                return self.negated(self.value(arg))
            case Bin(op, lhs, rhs):
                return self.binary(op, lhs, rhs)
            case Call(fn, args):
                return self.call(fn, args)
            case Ref():
                return self.values[e.tensor] if e.tensor in self.values else self.load(e)
            case Reduce():
                return self.reduction(e)
        raise TypeError(f"not an expression of an op: {e!r}")

    def size(self, e: Expr) -> Val:
        """An integer expression of dims alone."""
        span = self.dim_span(e)
        return Val(e, int_dtype(span), (), span)

    def dim_span(self, e: Expr) -> Interval:
        known = {n: s.lo for n, s in self.sizes.items() if s.lo is not None and s.lo == s.hi}
        if isinstance(e, Dim):
            return self.sizes[e.name]
        if isinstance(e, Bin):
            # Every dim is at least 1, so products and sums of dims keep their bounds.
            a, b = self.dim_span(e.lhs), self.dim_span(e.rhs)
            return interval(Bin(e.op, Var("a"), Var("b")), {}, {"a": a, "b": b})
        return interval(e, known, {})

    def index(self, e: Expr) -> Val:
        """An integer expression over loop variables, as a number."""
        match e:
            case Num(int() as x):
                return Val(x, DType.I32, (), Interval(x, x))
            case Dim():
                return self.size(e)
            case Var(name):
                return self.scalars[name] if name in self.scalars else self.b.iota(name)
            case Neg(arg):
                return self.negated(self.index(arg))
            case Bin(op, lhs, rhs):
                return self.integer(op, self.index(lhs), self.index(rhs))
            case Call(fn, (x, y)):
                return self.extreme(fn, self.index(x), self.index(y))
        raise TypeError(f"not an index expression: {e!r}")

    def floating(self, e: Expr) -> Val:
        """The value of ``e`` as a float, without the way through integers where it is rounded."""
        if isinstance(e, Call) and e.fn in _ROUNDING:
            v = self.value(e.args[0])
            if self.is_float(v):
                return self.b.unary(e.fn, v, self.real)
            return self.b.cast(v, self.real)
        return self.b.cast(self.value(e), self.real)

    def is_float(self, v: Val) -> bool:
        return v.dtype.is_float

    def negated(self, v: Val) -> Val:
        if isinstance(v.x, int | float):
            return Val(-v.x, v.dtype, (), interval(Neg(Var("v")), {}, {"v": v.span}))
        if self.is_float(v):
            return self.b.unary("neg", v, self.real)
        return self.integer("-", Val(0, DType.I32, (), Interval(0, 0)), v)

    def binary(self, op: str, lhs: Expr, rhs: Expr) -> Val:
        if op == "/":
            return self.b.binary("div", self.floating(lhs), self.floating(rhs), self.real)
        a, b = self.pair(lhs, rhs)
        if op in ("and", "or"):
            return self.b.binary(op, a, b, DType.I1)
        if op in COMPARISONS:
            return self.compared(op, a, b)
        return self.real_binary(op, a, b) if self.is_float(a) else self.integer(op, a, b)

    def pair(self, x: Expr, y: Expr) -> tuple[Val, Val]:
        """Two values; both floats if either is one."""
        a, b = self.value(x), self.value(y)
        if self.is_float(a) and not self.is_float(b):
            b = self.floating(y) if isinstance(y, Call) else self.b.cast(b, self.real)
        elif self.is_float(b) and not self.is_float(a):
            a = self.floating(x) if isinstance(x, Call) else self.b.cast(a, self.real)
        return a, b

    def compared(self, op: str, a: Val, b: Val) -> Val:
        if a.dtype.is_bool:
            if op == "!=":
                return self.b.binary("xor", a, b, DType.I1)
            return self.b.unary("not", self.b.binary("xor", a, b, DType.I1), DType.I1)
        return self.b.compare(_PREDICATES[op], a, b, self.common(a, b))

    def common(self, a: Val, b: Val) -> DType:
        """The dtype in which two numbers (or two conditions) meet."""
        if a.dtype.is_bool and b.dtype.is_bool:
            return DType.I1
        if self.is_float(a) or self.is_float(b):
            return self.real
        return DType.I64 if DType.I64 in (a.dtype, b.dtype) else DType.I32

    def real_binary(self, op: str, a: Val, b: Val) -> Val:
        real = self.real
        if op in _FOLD and isinstance(a.x, int | float) and isinstance(b.x, int | float):
            return Val(_FOLD[op](float(a.x), float(b.x)), real)
        if op in ("//", "%"):
            floor = self.b.unary("floor", self.b.binary("div", a, b, real), real)
            if op == "//":
                return floor
            return self.b.binary("sub", a, self.b.binary("mul", b, floor, real), real)
        return self.b.binary(_ARITHMETIC[op], a, b, real)

    def integer(self, op: str, a: Val, b: Val) -> Val:
        """``+ - * // %`` of integers, in i64 where i32 might overflow."""
        span = interval(Bin(op, Var("a"), Var("b")), {}, {"a": a.span, "b": b.span})
        if isinstance(a.x, int) and isinstance(b.x, int) and (b.x or op not in ("//", "%")):
            x = INT_OPS[op](a.x, b.x)
            return Val(x, int_dtype(span), (), Interval(x, x))
        if a.is_constant and b.is_constant and op not in ("//", "%"):
            return Val(Bin(op, _as_expr(a), _as_expr(b)), int_dtype(span), (), span)
        dtype = int_dtype(span)
        if DType.I64 in (a.dtype, b.dtype):
            dtype = DType.I64
        return self.b.binary(_ARITHMETIC[op], a, b, dtype, span)

    def product(self, a: Val, b: Val) -> Val:
        """``a * b``, as floats if either is one."""
        if self.is_float(a) or self.is_float(b):
            return self.real_binary("*", self.b.cast(a, self.real), self.b.cast(b, self.real))
        return self.integer("*", a, b)

    def extreme(self, fn: str, a: Val, b: Val) -> Val:
        span = interval(Call(fn, (Var("a"), Var("b"))), {}, {"a": a.span, "b": b.span})
        return self.b.binary(fn, a, b, self.common(a, b), span)

    def call(self, fn: str, args: tuple[Expr, ...]) -> Val:
        if fn == "select":
            return self.selected(*args)
        if fn in ("min", "max"):
            return self.extreme(fn, self.value(args[0]), self.value(args[1]))
        if fn == "not":
            return self.b.unary("not", self.value(args[0]), DType.I1)
        if fn == "pow":
            return self.b.binary("pow", self.floating(args[0]), self.floating(args[1]), self.real)
        if fn == "abs":
            return self.absolute(self.value(args[0]))
        if fn in _ROUNDING:
            v = self.value(args[0])
            if not self.is_float(v):
                return v
            return self.b.cast(self.b.unary(fn, v, self.real), DType.I64)
        return self.b.unary(fn, self.floating(args[0]), self.real)

    def absolute(self, v: Val) -> Val:
        if self.is_float(v):
            return self.b.unary("abs", v, self.real)
        minus = interval(Neg(Var("v")), {}, {"v": v.span})
        span = interval(Call("max", (Var("a"), Var("b"))), {}, {"a": v.span, "b": minus})
        dtype = DType.I64 if v.dtype is DType.I64 else int_dtype(span)
        return self.b.unary("abs", v, dtype, span)

    def selected(self, c: Expr, x: Expr, y: Expr) -> Val:
        condition = self.value(c)
        a, b = self.pair(x, y)
        span = _hull(a.span, b.span)
        return self.b.select(condition, a, b, self.common(a, b), span)


def _hull(a: Interval, b: Interval) -> Interval:
    lo = None if a.lo is None or b.lo is None else min(a.lo, b.lo)
    return Interval(lo, None if a.hi is None or b.hi is None else max(a.hi, b.hi))


def _as_expr(v: Val) -> Expr:
    return v.x if isinstance(v.x, Expr) else Num(int(v.x))
