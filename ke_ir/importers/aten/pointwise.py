"""Element by element: arithmetic, comparisons, activations, conversions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ke_ir.expr import Bin, Call, Expr, Neg, Num
from ke_ir.importers.aten.integers import bits, integer_power
from ke_ir.importers.aten.terms import absolute, select
from ke_ir.importers.aten.views import broadcast
from ke_ir.importers.graph import Index, Value, constant, literal, numeric
from ke_ir.importers.registry import Node, aten
from ke_ir.types import DType

Scalar = int | float | bool
Operand = Value | Scalar


def element(x: Operand, shape: Sequence[Expr], number: bool = True) -> Callable[[Index], Expr]:
    """Elements of a tensor or number broadcast to a shape; conditions as numbers if wanted."""
    if not isinstance(x, Value):
        kind = DType.F64 if isinstance(x, float) else DType.I64
        return lambda _: literal(x, kind if number else DType.I1)
    at = broadcast(x, shape).at
    return (lambda i: numeric(at(i), x.dtype)) if number else at


def condition(x: Operand, shape: Sequence[Expr]) -> Callable[[Index], Expr]:
    """Elements as conditions: a number is one where it is not 0."""
    if not isinstance(x, Value):
        return lambda _: literal(bool(x), DType.I1)
    at = broadcast(x, shape).at
    return at if x.dtype.is_bool else lambda i: Bin("!=", at(i), Num(0))


def is_float(x: Operand) -> bool:
    return x.dtype.is_float if isinstance(x, Value) else isinstance(x, float)


def mapped(node: Node, f: Callable[..., Expr], *xs: Operand) -> Value:
    """An equation that applies ``f`` to the elements of operands, as numbers."""
    ats = [element(x, node.shape) for x in xs]
    return node.define(lambda i: f(*(at(i) for at in ats)))


def step(node: Node, suffix: str, f: Callable[..., Expr], *xs: Operand) -> Value:
    """An equation of its own for what several others read."""
    return mapped(Node(f"{node.name}_{suffix}", node.builder, node.results), f, *xs)


def call(fn: str) -> Callable[..., Expr]:
    return lambda *args: Call(fn, args)


def binary(op: str) -> Callable[[Expr, Expr], Expr]:
    return lambda a, b: Bin(op, a, b)


def scaled(x: Expr, alpha: Scalar) -> Expr:
    return x if alpha == 1 else Bin("*", x, literal(alpha, DType.F64 if isinstance(alpha, float)
                                                    else DType.I64))  # fmt: skip


@aten("add.Tensor", "add.Scalar")
def add(node: Node, a: Operand, b: Operand, alpha: Scalar) -> Value:
    if node.dtype.is_bool:
        return logical_or(node, a, b)
    return mapped(node, lambda x, y: Bin("+", x, scaled(y, alpha)), a, b)


@aten("sub.Tensor", "sub.Scalar")
def sub(node: Node, a: Operand, b: Operand, alpha: Scalar) -> Value:
    return mapped(node, lambda x, y: Bin("-", x, scaled(y, alpha)), a, b)


@aten("rsub.Tensor", "rsub.Scalar")
def rsub(node: Node, a: Operand, b: Operand, alpha: Scalar) -> Value:
    return mapped(node, lambda x, y: Bin("-", y, scaled(x, alpha)), a, b)


@aten("mul.Tensor", "mul.Scalar")
def mul(node: Node, a: Operand, b: Operand) -> Value:
    if node.dtype.is_bool:
        return logical_and(node, a, b)
    return mapped(node, binary("*"), a, b)


@aten("div.Tensor", "div.Scalar")
def div(node: Node, a: Operand, b: Operand) -> Value:
    return mapped(node, binary("/"), a, b)


@aten("div.Tensor_mode", "div.Scalar_mode")
def div_mode(node: Node, a: Operand, b: Operand, mode: str | None) -> Value:
    if mode is None:
        return div(node, a, b)
    if mode == "floor":
        return mapped(node, binary("//"), a, b)
    if not node.dtype.is_float:
        return mapped(node, truncated, a, b)
    return mapped(node, lambda x, y: Call("trunc", (Bin("/", x, y),)), a, b)


def truncated(x: Expr, y: Expr) -> Expr:
    """Integer division toward zero."""
    quotient = Bin("//", absolute(x), absolute(y))
    same = Bin("==", Bin("<", x, Num(0)), Bin("<", y, Num(0)))
    return select(same, quotient, Neg(quotient))


@aten("floor_divide.default")
def floor_divide(node: Node, a: Operand, b: Operand) -> Value:
    return mapped(node, binary("//"), a, b)


@aten("pow.Tensor_Tensor", "pow.Tensor_Scalar", "pow.Scalar")
def power(node: Node, a: Operand, b: Operand) -> Value:
    if not isinstance(b, Value):
        short = _power_of(b, node.dtype.is_float)
        if short is not None:
            return mapped(node, short, a)
    if not node.dtype.is_float:
        return mapped(node, lambda x, n: integer_power(node, x, n), a, b)
    return mapped(node, call("pow"), a, b)


def _power_of(n: Scalar, is_float: bool) -> Callable[[Expr], Expr] | None:
    """A power by multiplication or a square root, where it is one."""
    if float(n).is_integer() and 1 <= n <= 4:
        return lambda x: _product([x] * int(n))
    if n == 0:
        return lambda x: Num(1.0) if is_float else Num(1)
    if not is_float:
        return None
    forms: dict[float, Callable[[Expr], Expr]] = {
        0.5: lambda x: Call("sqrt", (x,)),
        -0.5: lambda x: Call("rsqrt", (x,)),
        -1.0: lambda x: Bin("/", Num(1.0), x),
        -2.0: lambda x: Bin("/", Num(1.0), Bin("*", x, x)),
    }
    return forms.get(float(n))


def _product(xs: list[Expr]) -> Expr:
    out = xs[0]
    for x in xs[1:]:
        out = Bin("*", out, x)
    return out


@aten("maximum.default")
def maximum(node: Node, a: Operand, b: Operand) -> Value:
    if node.dtype.is_bool:
        return logical_or(node, a, b)
    return mapped(node, call("max"), a, b)


@aten("minimum.default")
def minimum(node: Node, a: Operand, b: Operand) -> Value:
    if node.dtype.is_bool:
        return logical_and(node, a, b)
    return mapped(node, call("min"), a, b)


@aten("clamp.default", "clamp.Tensor")
def clamp(node: Node, x: Value, lo: Operand | None, hi: Operand | None) -> Value:
    xs = [y for y in (x, lo, hi) if y is not None]

    def f(v: Expr, *bounds: Expr) -> Expr:
        left = list(bounds)
        if lo is not None:
            v = Call("max", (v, left.pop(0)))
        return Call("min", (v, left.pop(0))) if hi is not None else v

    return mapped(node, f, *xs)


@aten("clamp_min.default", "clamp_min.Tensor")
def clamp_min(node: Node, x: Value, lo: Operand) -> Value:
    return mapped(node, call("max"), x, lo)


@aten("clamp_max.default", "clamp_max.Tensor")
def clamp_max(node: Node, x: Value, hi: Operand) -> Value:
    return mapped(node, call("min"), x, hi)


# Functions of one element


def _sign(x: Expr) -> Expr:
    return select(Bin(">", x, Num(0)), Num(1), select(Bin("<", x, Num(0)), Num(-1), Num(0)))


UNARY: dict[str, Callable[[Expr], Expr]] = {
    **{f: call(f) for f in ("exp", "exp2", "log", "log2", "sqrt", "rsqrt", "sin", "cos", "tan",
                            "tanh", "sigmoid", "erf")},
    "neg": Neg,
    "reciprocal": lambda x: Bin("/", Num(1.0), x),
    "relu": lambda x: Call("max", (x, Num(0))),
    "square": lambda x: Bin("*", x, x),
    "log1p": lambda x: Call("log", (Bin("+", Num(1.0), x),)),
    "expm1": lambda x: Bin("-", Call("exp", (x,)), Num(1.0)),
    "log10": lambda x: Bin("*", Call("log", (x,)), Num(1 / math.log(10))),
    "sinh": lambda x: Bin("/", Bin("-", Call("exp", (x,)), Call("exp", (Neg(x),))), Num(2.0)),
    "cosh": lambda x: Bin("/", Bin("+", Call("exp", (x,)), Call("exp", (Neg(x),))), Num(2.0)),
    "erfc": lambda x: Bin("-", Num(1.0), Call("erf", (x,))),
    "silu": lambda x: Bin("*", x, Call("sigmoid", (x,))),
    "abs": call("abs"),
    "sign": _sign, "sgn": _sign,
}  # fmt: skip


def _unary(name: str, f: Callable[[Expr], Expr]) -> None:
    @aten(f"{name}.default")
    def handler(node: Node, x: Value) -> Value:
        return mapped(node, f, x)


for _name, _f in UNARY.items():
    _unary(_name, _f)


def _rounding(name: str) -> None:
    @aten(f"{name}.default")
    def handler(node: Node, x: Value) -> Value:
        return mapped(node, call(name) if x.dtype.is_float else lambda e: e, x)


for _name in ("floor", "ceil", "round", "trunc"):
    _rounding(_name)


@aten("frac.default")
def frac(node: Node, x: Value) -> Value:
    return mapped(node, lambda e: Bin("-", e, Call("trunc", (e,))), x)


@aten("gelu.default")
def gelu(node: Node, x: Value, approximate: str) -> Value:
    if approximate == "tanh":
        return mapped(node, _gelu_tanh, x)
    return mapped(
        node,
        lambda e: Bin("*", Bin("*", Num(0.5), e),
                      Bin("+", Num(1.0), Call("erf", (Bin("*", e, Num(math.sqrt(0.5))),)))),
        x,
    )  # fmt: skip


def _gelu_tanh(e: Expr) -> Expr:
    cube = Bin("*", Num(0.044715), _product([e, e, e]))
    inner = Bin("*", Num(math.sqrt(2 / math.pi)), Bin("+", e, cube))
    return Bin("*", Bin("*", Num(0.5), e), Bin("+", Num(1.0), Call("tanh", (inner,))))


@aten("leaky_relu.default")
def leaky_relu(node: Node, x: Value, slope: Scalar) -> Value:
    return mapped(
        node,
        lambda e: select(Bin(">", e, Num(0)), e, Bin("*", e, Num(float(slope)))), x,
    )  # fmt: skip


@aten("elu.default")
def elu(node: Node, x: Value, alpha: Scalar, scale: Scalar, input_scale: Scalar) -> Value:
    def f(e: Expr) -> Expr:
        low = Bin("*", Num(float(alpha * scale)), Bin(
            "-", Call("exp", (scaled(e, float(input_scale)),)), Num(1.0)))  # fmt: skip
        return select(Bin(">", e, Num(0)), scaled(e, float(scale)), low)

    return mapped(node, f, x)


@aten("softplus.default")
def softplus(node: Node, x: Value, beta: Scalar, threshold: Scalar) -> Value:
    def f(e: Expr) -> Expr:
        z = scaled(e, float(beta))
        soft = Bin("/", Call("log", (Bin("+", Num(1.0), Call("exp", (z,))),)), Num(float(beta)))
        return select(Bin(">", z, Num(float(threshold))), e, soft)

    return mapped(node, f, x)


@aten("hardtanh.default")
def hardtanh(node: Node, x: Value, lo: Scalar, hi: Scalar) -> Value:
    if not node.dtype.is_float:
        lo, hi = int(lo), int(hi)
    return clamp(node, x, lo, hi)


# Comparisons and logic


def _comparison(name: str, op: str) -> None:
    @aten(f"{name}.Tensor", f"{name}.Scalar")
    def handler(node: Node, a: Operand, b: Operand) -> Value:
        return mapped(node, binary(op), a, b)


for _name, _op in (
    ("eq", "=="),
    ("ne", "!="),
    ("lt", "<"),
    ("le", "<="),
    ("gt", ">"),
    ("ge", ">="),
):
    _comparison(_name, _op)


def logic(node: Node, f: Callable[..., Expr], *xs: Operand) -> Value:
    ats = [condition(x, node.shape) for x in xs]
    return node.define(lambda i: f(*(at(i) for at in ats)))


@aten("logical_and.default")
def logical_and(node: Node, a: Operand, b: Operand) -> Value:
    return logic(node, binary("and"), a, b)


@aten("logical_or.default")
def logical_or(node: Node, a: Operand, b: Operand) -> Value:
    return logic(node, binary("or"), a, b)


@aten("logical_xor.default")
def logical_xor(node: Node, a: Operand, b: Operand) -> Value:
    return logic(node, binary("!="), a, b)


@aten("logical_not.default")
def logical_not(node: Node, a: Operand) -> Value:
    return logic(node, call("not"), a)


def _bitwise(name: str, on_conditions: Any, on_bits: Callable[[Expr, Expr], Expr]) -> None:
    @aten(f"{name}.Tensor", f"{name}.Scalar")
    def handler(node: Node, a: Operand, b: Operand) -> Value:
        if node.dtype.is_bool:
            result: Value = on_conditions(node, a, b)
            return result
        return mapped(node, lambda x, y: bits(node, on_bits, x, y), a, b)


for _name, _f2, _bits in (
    ("bitwise_and", logical_and, lambda x, y: Bin("*", x, y)),
    ("bitwise_or", logical_or, lambda x, y: Call("max", (x, y))),
    ("bitwise_xor", logical_xor, lambda x, y: Bin("%", Bin("+", x, y), Num(2))),
):
    _bitwise(_name, _f2, _bits)


@aten("bitwise_not.default")
def bitwise_not(node: Node, a: Value) -> Value:
    if a.dtype.is_bool:
        return logical_not(node, a)
    return mapped(node, lambda e: Bin("-", Num(-1), e), a)


@aten("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def where(node: Node, c: Value, a: Operand, b: Operand) -> Value:
    test = condition(c, node.shape)
    x, y = (element(v, node.shape, not node.dtype.is_bool) for v in (a, b))
    return node.define(lambda i: select(test(i), x(i), y(i)))


@aten("masked_fill.Scalar", "masked_fill.Tensor")
def masked_fill(node: Node, x: Value, mask: Value, value: Operand) -> Value:
    return where(node, mask, value, x)


@aten("isnan.default")
def isnan(node: Node, x: Value) -> Value:
    return mapped(node, lambda e: Bin("!=", e, e), x)


@aten("isinf.default")
def isinf(node: Node, x: Value) -> Value:
    return mapped(node, lambda e: Bin("==", absolute(e), Num(math.inf)), x)


# Conversions, constants, and what changes nothing


@aten("_to_copy.default", "to.dtype", "to.dtype_layout", "to.device")
def to_copy(node: Node, x: Value, *_: Any) -> Value:
    return converted(x, node.dtype, node)


def converted(x: Value, dtype: DType, node: Node) -> Value:
    """The value in another dtype, with PyTorch's rules; the same value if it holds the same."""
    if (
        x.dtype is dtype
        or (x.dtype.is_float and dtype.is_float)
        or (
            x.dtype.is_int
            and dtype.is_int
            and dtype.bits > x.dtype.bits
            and x.dtype is not DType.U8
        )
    ):
        # Rounding is not the mathematics' business: an op is rounded once, at its outputs.
        return Value(x.shape, dtype, x.at, x.tensor if x.dtype is dtype else "")
    if dtype.is_bool:
        return node.define(lambda i: Bin("!=", x[i], Num(0)))
    if dtype.is_float:
        return Value(x.shape, dtype, lambda i: numeric(x[i], x.dtype))
    if x.dtype.is_bool:
        return node.define(lambda i: numeric(x[i], x.dtype))
    whole = (lambda e: Call("trunc", (e,))) if x.dtype.is_float else (lambda e: e)  # fmt: skip
    if dtype.bits < 64 and x.dtype.is_int:
        return node.define(lambda i: wrapped(x[i], dtype))
    return node.define(lambda i: whole(x[i]))


def wrapped(e: Expr, dtype: DType) -> Expr:
    """An integer as a narrower type holds it."""
    span = Num(1 << dtype.bits)
    if dtype is DType.U8:
        return Bin("%", e, span)
    half = Num(1 << (dtype.bits - 1))
    return Bin("-", Bin("%", Bin("+", e, half), span), half)


@aten("clone.default", "alias.default", "detach.default", "contiguous.default",
      "lift_fresh.default", "lift_fresh_copy.default", "positive.default")  # fmt: skip
def same(node: Node, x: Value, *_: Any) -> Value:
    return x


@aten("full.default", "full_like.default")
def full(node: Node, _: Any, value: Scalar, *__: Any) -> Value:
    return constant(value, node.dtype, node.shape)


@aten("scalar_tensor.default")
def scalar_tensor(node: Node, value: Scalar, *_: Any) -> Value:
    return constant(value, node.dtype)


@aten("zeros.default", "zeros_like.default", "new_zeros.default")
def zeros(node: Node, *_: Any) -> Value:
    return constant(0, node.dtype, node.shape)


@aten("ones.default", "ones_like.default", "new_ones.default")
def ones(node: Node, *_: Any) -> Value:
    return constant(1, node.dtype, node.shape)


@aten("new_full.default")
def new_full(node: Node, _: Any, __: Any, value: Scalar, *___: Any) -> Value:
    return constant(value, node.dtype, node.shape)


@aten("arange.start_step")
def arange(node: Node, start: Scalar, end: Scalar, step: Scalar, *_: Any) -> Value:
    def at(index: Index) -> Expr:
        return Bin("+", scaled(index[0], step), literal(start, node.dtype))

    return Value(node.shape, node.dtype, at)


@aten("_assert_tensor_metadata.default", "_assert_scalar.default", "_assert_async.msg")
def nothing(*_: Any) -> None:
    """What PyTorch checks at run time has been checked by the export."""


@aten("empty.memory_format", "empty_permuted.default", "empty_like.default", "new_empty.default")
def empty(node: Node, *_: Any) -> Value:
    """Elements that nobody may read; 0 is as good as any."""
    return constant(0, node.dtype, node.shape)
