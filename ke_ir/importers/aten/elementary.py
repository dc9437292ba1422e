"""Functions of one or two elements that the language has no name for, as formulas."""

from __future__ import annotations

import math

from ke_ir.expr import Bin, Call, Expr, Neg, Num
from ke_ir.importers.aten.pointwise import Operand, converted, logical_and, logical_or, mapped, step
from ke_ir.importers.aten.terms import absolute, select
from ke_ir.importers.aten.views import broadcast
from ke_ir.importers.graph import Value
from ke_ir.importers.registry import Node, Unsupported, aten

_TERMS = 8
"""Of the series of atan, which is cut off below 1e-12."""


def _half(z: Expr) -> Expr:
    """tan(a / 2) from tan(a)."""
    return Bin("/", z, Bin("+", Num(1.0), Call("sqrt", (Bin("+", Num(1.0), Bin("*", z, z)),))))


def _series(z: Expr) -> Expr:
    square = Bin("*", z, z)
    total: Expr = Num((-1.0) ** (_TERMS - 1) / (2 * _TERMS - 1))
    for k in range(_TERMS - 2, -1, -1):
        total = Bin("+", Num((-1.0) ** k / (2 * k + 1)), Bin("*", square, total))
    return Bin("*", z, total)


def _arc(node: Node, x: Value) -> Value:
    """atan of non-negative elements, over the node's shape: halved twice after the largest are
    turned over.

    Each step is an equation of its own: written as one expression it would double at every step.
    """
    turned = step(node, "in", lambda e: select(
        Bin(">", e, Num(1.0)), Bin("/", Num(1.0), e), e), x)  # fmt: skip
    once = step(node, "half", _half, turned)
    twice = step(node, "quarter", _half, once)
    return step(node, "arc", lambda e, z: select(
        Bin(">", e, Num(1.0)),
        Bin("-", Num(math.pi / 2), Bin("*", Num(4.0), _series(z))),
        Bin("*", Num(4.0), _series(z))), x, twice)  # fmt: skip


def _signed(size: Expr, like: Expr) -> Expr:
    return select(Bin("<", like, Num(0)), Neg(size), size)


@aten("atan.default")
def atan(node: Node, x: Value) -> Value:
    return mapped(node, _signed, _arc(node, step(node, "size", absolute, x)), x)


@aten("asin.default")
def asin(node: Node, x: Value) -> Value:
    def tangent(e: Expr) -> Expr:
        e = absolute(e)
        other = Bin("*", Bin("-", Num(1.0), e), Bin("+", Num(1.0), e))
        return Bin("/", e, Call("sqrt", (other,)))

    return mapped(node, _signed, _arc(node, step(node, "tan", tangent, x)), x)


@aten("acos.default")
def acos(node: Node, x: Value) -> Value:
    half = _arc(node, step(node, "tan", lambda e: Call("sqrt", (
        Bin("/", Bin("-", Num(1.0), e), Bin("+", Num(1.0), e)),)), x))  # fmt: skip
    return mapped(node, lambda e: Bin("*", Num(2.0), e), half)


@aten("atan2.default")
def atan2(node: Node, y: Value, x: Value) -> Value:
    ratio = step(node, "tan", lambda a, b: select(
        Bin("==", a, Num(0)), Num(0.0), Bin("/", absolute(a), absolute(b))), y, x)  # fmt: skip

    def whole(size: Expr, a: Expr, b: Expr) -> Expr:
        left = select(Bin("<", b, Num(0)), Bin("-", Num(math.pi), size), size)
        return _signed(left, a)

    return mapped(node, whole, _arc(node, ratio), y, x)


@aten("asinh.default")
def asinh(node: Node, x: Value) -> Value:
    def f(e: Expr) -> Expr:
        size = absolute(e)
        root = Call("sqrt", (Bin("+", Bin("*", e, e), Num(1.0)),))
        over = Bin("/", Num(1.0), size)
        large = Call("sqrt", (Bin("+", Bin("*", over, over), Num(1.0)),))
        return _signed(
            select(
                Bin(">", size, Num(1.0)),
                Bin("+", Call("log", (size,)), Call("log", (Bin("+", Num(1.0), large),))),
                Call("log", (Bin("+", size, root),)),
            ),
            e,
        )

    return mapped(node, f, x)


@aten("acosh.default")
def acosh(node: Node, x: Value) -> Value:
    def f(e: Expr) -> Expr:
        roots = [Call("sqrt", (Bin(op, e, Num(1.0)),)) for op in "-+"]
        return Call("log", (Bin("+", e, Bin("*", *roots)),))

    return mapped(node, f, x)


@aten("atanh.default")
def atanh(node: Node, x: Value) -> Value:
    return mapped(node, lambda e: Bin("*", Num(0.5), Call("log", (
        Bin("/", Bin("+", Num(1.0), e), Bin("-", Num(1.0), e)),))), x)  # fmt: skip


def negative(e: Expr) -> Expr:
    """True for what has a sign, -0 included."""
    return Bin("or", Bin("<", e, Num(0)), Bin("==", Bin("/", Num(1.0), e), Num(-math.inf)))


@aten("signbit.default")
def signbit(node: Node, x: Value) -> Value:
    if x.dtype.is_float:
        return mapped(node, negative, x)
    return mapped(node, lambda e: Bin("<", e, Num(0)), x)


@aten("copysign.Tensor", "copysign.Scalar")
def copysign(node: Node, x: Value, sign: Operand) -> Value:
    if not isinstance(sign, Value) and math.copysign(1.0, sign) < 0:
        return mapped(node, lambda e: Neg(absolute(e)), x)
    test = negative if isinstance(sign, Value) and sign.dtype.is_float else (
        lambda e: Bin("<", e, Num(0)))  # fmt: skip
    return mapped(node, lambda e, s: select(test(s), Neg(absolute(e)), absolute(e)), x, sign)


@aten("hypot.default")
def hypot(node: Node, a: Value, b: Value) -> Value:
    return mapped(node, lambda x, y: Call("sqrt", (
        Bin("+", Bin("*", x, x), Bin("*", y, y)),)), a, b)  # fmt: skip


@aten("bitwise_left_shift.Tensor", "bitwise_left_shift.Tensor_Scalar", "__lshift__.Tensor",
      "__lshift__.Scalar")  # fmt: skip
def shift_left(node: Node, a: Operand, b: Operand) -> Value:
    return _shifted(node, a, b, "*")


@aten("bitwise_right_shift.Tensor", "bitwise_right_shift.Tensor_Scalar", "__rshift__.Tensor",
      "__rshift__.Scalar")  # fmt: skip
def shift_right(node: Node, a: Operand, b: Operand) -> Value:
    return _shifted(node, a, b, "//")


def _shifted(node: Node, a: Operand, b: Operand, op: str) -> Value:
    if node.dtype.is_float:
        raise Unsupported("a shift of floats")
    return mapped(node, lambda x, n: Bin(op, x, Call("floor", (Call("exp2", (n,)),))), a, b)


@aten("round.decimals")
def round_decimals(node: Node, x: Value, decimals: int) -> Value:
    if not x.dtype.is_float:
        return x
    by = Num(10.0 ** abs(decimals))
    up, down = ("*", "/") if decimals >= 0 else ("/", "*")
    return mapped(node, lambda e: Bin(down, Call("round", (Bin(up, e, by),)), by), x)


@aten("angle.default")
def angle(node: Node, x: Value) -> Value:
    """pi where it is negative; NaN stays."""
    return mapped(node, lambda e: select(
        Bin("!=", e, e), e, select(Bin("<", e, Num(0)), Num(math.pi), Num(0.0))), x)  # fmt: skip


@aten("fmax.default")
def fmax(node: Node, a: Operand, b: Operand) -> Value:
    if node.dtype.is_bool:
        return logical_or(node, a, b)
    return mapped(node, lambda x, y: _known(x, y, Call("max", (x, y))), a, b)


@aten("fmin.default")
def fmin(node: Node, a: Operand, b: Operand) -> Value:
    if node.dtype.is_bool:
        return logical_and(node, a, b)
    return mapped(node, lambda x, y: _known(x, y, Call("min", (x, y))), a, b)


def _known(x: Expr, y: Expr, both: Expr) -> Expr:
    """The other one where one is NaN."""
    return select(Bin("!=", x, x), y, select(Bin("!=", y, y), x, both))


@aten("ldexp.Tensor")
def ldexp(node: Node, x: Operand, n: Operand) -> Value:
    return mapped(node, lambda e, k: Bin("*", e, Call("exp2", (k,))), x, n)


@aten("frexp.Tensor")
def frexp(node: Node, x: Value) -> list[Value]:
    """x = mantissa * 2^exponent, the mantissa from 1/2 up to 1; 0, infinities and NaN stay.

    The logarithm may be off by a rounding, so that the exponent is looked at again. Powers of two
    are taken in two parts: one alone has no float64 where x is subnormal.
    """
    plain = step(node, "plain", lambda e: select(Bin("and", Bin("!=", e, Num(0)), Bin(
        "<", absolute(e), Num(math.inf))), e, Num(0.5)), x)  # fmt: skip
    near = step(node, "near", lambda e: Bin("+", Call("floor", (
        Call("log2", (absolute(e),)),)), Num(1.0)), plain)  # fmt: skip

    def share(e: Expr, n: Expr) -> Expr:
        half = Call("floor", (Bin("*", n, Num(0.5)),))
        return Bin("*", Bin("*", e, Call("exp2", (Neg(half),))),
                   Call("exp2", (Bin("-", half, n),)))  # fmt: skip

    first = step(node, "share", share, plain, near)

    def by_size(e: Expr, above: Expr, within: Expr, below: Expr) -> Expr:
        return select(Bin(">=", absolute(e), Num(1.0)), above,
                       select(Bin("<", absolute(e), Num(0.5)), below, within))  # fmt: skip

    def mantissa(e: Expr, p: Expr, m: Expr) -> Expr:
        found = by_size(m, Bin("*", Num(0.5), m), m, Bin("*", Num(2.0), m))
        return select(Bin("==", e, p), found, e)

    def exponent(e: Expr, p: Expr, n: Expr, m: Expr) -> Expr:
        found = by_size(m, Bin("+", n, Num(1.0)), n, Bin("-", n, Num(1.0)))
        return Call("trunc", (select(Bin("==", e, p), found, Num(0.0)),))

    ats = [v.at for v in (x, plain, near, first)]
    return [mapped(node, mantissa, x, plain, first),
            node.define(lambda i: exponent(*(at(i) for at in ats)), 1, "_exponent")]  # fmt: skip


@aten("heaviside.default")
def heaviside(node: Node, x: Value, at_zero: Value) -> Value:
    if node.dtype.is_bool:
        return logical_or(node, x, at_zero)
    one, zero = (Num(1.0), Num(0.0)) if node.dtype.is_float else (Num(1), Num(0))
    return mapped(node, lambda e, v: select(
        Bin("==", e, Num(0)), v, select(Bin(">", e, Num(0)), one, zero)), x, at_zero)  # fmt: skip


@aten("logaddexp.default")
def logaddexp(node: Node, a: Value, b: Value) -> Value:
    return mapped(node, lambda x, y: _logaddexp(x, y, "exp", "log"), a, b)


@aten("logaddexp2.default")
def logaddexp2(node: Node, a: Value, b: Value) -> Value:
    return mapped(node, lambda x, y: _logaddexp(x, y, "exp2", "log2"), a, b)


def _logaddexp(x: Expr, y: Expr, exp: str, log: str) -> Expr:
    """Equal infinities stand for themselves: their difference is no number."""
    apart = Call(exp, (Neg(absolute(Bin("-", x, y))),))
    total = Bin("+", Call("max", (x, y)), Call(log, (Bin("+", Num(1.0), apart),)))
    return select(Bin("==", x, y), Bin("+", x, Num(1.0 if log == "log2" else math.log(2))), total)


@aten("copy.default")
def copy(node: Node, x: Value, source: Value, _: bool) -> Value:
    """``x`` gives the shape and the dtype only."""
    return converted(broadcast(source, node.shape), node.dtype, node)
