"""Remainders without a rounding of the quotient's product, and what Euclid makes of them."""

from __future__ import annotations

import math

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.pointwise import Operand, element, mapped, step, truncated
from ke_ir.importers.aten.terms import absolute, negated, select
from ke_ir.importers.graph import Index, Value
from ke_ir.importers.registry import Node, aten
from ke_ir.index_maps import earlier

_BITS = 12
"""Half of float32's: a product of two numbers of so many is exact."""
_HUGE = 1e30
"""Divisors above this would overflow when they are taken apart."""


def _high(b: Expr) -> Expr:
    """The upper half of the digits (T. Dekker, Numer. Math. 18, 1971)."""
    wide = Bin("*", Num(float((1 << _BITS) + 1)), b)
    return select(Bin("<", b, Num(_HUGE)), Bin("-", wide, Bin("-", wide, b)), b)


def _remainder_of_sizes(node: Node, a: Value, b: Value) -> Value:
    """What a / b leaves, from 0 up to b, of numbers that are not negative.

    A long division with two digits of 12 bits: each digit times each half of the divisor is exact
    in float32 and in float64, and so are the differences. A digit may be one off by the rounding
    of its quotient; the end corrects that. Where a / b is above 2^24 two digits are too few, and
    a kernel's remainder there is only as good as its quotient.
    """
    upper = step(node, "upper", _high, b)
    lower = step(node, "lower", lambda e, h: Bin("-", e, h), b, upper)
    base = float(1 << _BITS)

    def less(e: Expr, q: Expr, h: Expr, low: Expr) -> Expr:
        return Bin("-", Bin("-", e, Bin("*", q, h)), Bin("*", q, low))

    first = step(node, "first", lambda x, y: Bin("*", Num(base), Call(
        "floor", (Bin("/", x, Bin("*", Num(base), y)),))), a, b)  # fmt: skip
    rest = step(node, "rest", less, a, first, upper, lower)
    second = step(node, "second", lambda x, y: Call("floor", (Bin("/", x, y),)), rest, b)
    last = step(node, "last", less, rest, second, upper, lower)

    def corrected(x: Expr, r: Expr, y: Expr) -> Expr:
        up = select(Bin("<", r, Num(0)), Bin("+", r, y), r)
        found = select(Bin(">=", r, y), Bin("-", r, y), up)
        found = select(Bin("<", x, y), x, found)
        return select(Bin(">=", x, Bin("*", Num(base * base), y)), Bin("%", x, y), found)

    return step(node, "size", corrected, a, last, b)


def _whole(node: Node, a: Operand, b: Operand) -> tuple[Value, Value, Value]:
    """Both operands under the node's shape, and the size of fmod."""
    x, y = (step(node, name, lambda e: e, v) for name, v in (("dividend", a), ("divisor", b)))
    sizes = [step(node, f"{v.tensor}_size", absolute, v) for v in (x, y)]
    return x, y, _remainder_of_sizes(node, *sizes)


@aten("remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor")
def remainder(node: Node, a: Operand, b: Operand) -> Value:
    """With the divisor's sign."""
    if not node.dtype.is_float:
        return mapped(node, lambda x, y: Bin("%", x, y), a, b)
    x, y, size = _whole(node, a, b)

    def f(e: Expr, d: Expr, r: Expr) -> Expr:
        other = Bin("!=", Bin("<", e, Num(0)), Bin("<", d, Num(0)))
        signed = select(Bin("<", e, Num(0)), negated(r), r)
        return select(Bin("and", other, Bin("!=", r, Num(0))), Bin("+", signed, d), signed)

    return mapped(node, f, x, y, size)


@aten("fmod.Tensor", "fmod.Scalar")
def fmod(node: Node, a: Operand, b: Operand) -> Value:
    """With the dividend's sign."""
    if not node.dtype.is_float:
        return mapped(node, lambda x, y: Bin("-", x, Bin("*", truncated(x, y), y)), a, b)
    x, _, size = _whole(node, a, b)
    return mapped(node, lambda e, r: select(
        Bin("<", e, Num(0)), negated(r), r), x, size)  # fmt: skip


def _steps(bits: int) -> int:
    """Enough for any two integers: Fibonacci numbers take longest (Lame), after a first swap."""
    return math.ceil(bits / math.log2((1 + math.sqrt(5)) / 2)) + 2


@aten("gcd.default")
def gcd(node: Node, a: Value, b: Value) -> Value:
    """Steps of (x, y) to (y, x % y), until y is 0."""
    steps = _steps(node.dtype.bits)
    builder, shape = node.builder, (Num(steps), *node.shape)
    larger, smaller = builder.name(f"{node.name}_x"), builder.name(f"{node.name}_y")
    starts = {name: element(v, node.shape) for name, v in ((larger, a), (smaller, b))}

    def before(name: str, i: Index) -> Expr:
        return earlier(name, i, absolute(starts[name](i[1:])))

    def next_larger(i: Index) -> Expr:
        x, y = before(larger, i), before(smaller, i)
        return select(Bin("==", y, Num(0)), x, y)

    def next_smaller(i: Index) -> Expr:
        x, y = before(larger, i), before(smaller, i)
        rest = Bin("%", x, Call("max", (y, Num(1))))
        return select(Bin("==", y, Num(0)), Num(0), rest)

    found = builder.define(larger, shape, node.dtype, next_larger, True)
    builder.define(smaller, shape, node.dtype, next_smaller, True)
    return found.view(node.shape, lambda i: [Num(steps - 1), *i])


@aten("lcm.default")
def lcm(node: Node, a: Value, b: Value) -> Value:
    named = Node(f"{node.name}_gcd", node.builder, node.results)

    def f(x: Expr, y: Expr, common: Expr) -> Expr:
        return absolute(Bin("*", Bin("//", x, Call("max", (common, Num(1)))), y))

    return mapped(node, f, a, b, gcd(named, a, b))
