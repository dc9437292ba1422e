"""Hurwitz's zeta function, and the derivatives of digamma that are made of it."""

from __future__ import annotations

import math
from fractions import Fraction

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.gamma import digamma
from ke_ir.importers.aten.pointwise import Operand, mapped, step
from ke_ir.importers.aten.terms import negated, select
from ke_ir.importers.graph import Value, constant
from ke_ir.importers.registry import Node, aten
from ke_ir.types import DType

_SHIFT = 10
"""Terms that are added one by one, before the sum is an integral and its corrections."""
_BERNOULLI = (
    (1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6), (-3617, 510),
    (43867, 798), (-174611, 330), (854513, 138), (-236364091, 2730),
)  # fmt: skip
"""B[2], B[4], ..."""
_LARGEST = 200.0
"""Exponent above which what follows the first terms is below 1e-200."""


def _power(base: Expr, exponent: Expr) -> Expr:
    return Call("pow", (base, exponent))


class Hurwitz:
    """zeta(s, q) for s > 1 and q > 0, as equations, by Euler and Maclaurin (DLMF 25.11.5).

    With 10 terms and 12 corrections the relative error is about 1e-15.
    """

    def __init__(self, node: Node, s: Value) -> None:
        self.node, self.s = node, s

    def __call__(self, name: str, q: Value) -> Value:
        node, s = self.node, self.s
        first = node.builder.define(f"{node.name}_{name}_first", node.shape, node.dtype, lambda i:
            node.reduce("sum", [Num(_SHIFT)], lambda k: _power(
                Bin("+", q[i], k[0]), negated(s[i]))))  # fmt: skip
        rest = step(node, f"{name}_rest", self._corrections, q, s)
        return step(node, name, lambda a, b: Bin("+", a, b), first, rest)

    def _corrections(self, q: Expr, s: Expr) -> Expr:
        w = Bin("+", q, Num(float(_SHIFT)))
        s = Call("min", (s, Num(_LARGEST)))
        total: Expr = Num(0.0)
        for j in range(len(_BERNOULLI), 0, -1):
            # Each term is the next one's front: (s + 2j - 1) (s + 2j) / w^2.
            c = Fraction(*_BERNOULLI[j - 1]) / math.factorial(2 * j)
            if j < len(_BERNOULLI):
                a, b = (Bin("+", s, Num(float(2 * j + d))) for d in (-1, 0))
                total = Bin("*", Bin("/", Bin("*", a, b), Bin("*", w, w)), total)
            total = Bin("+", Num(float(c)), total)
        tail = Bin("*", Bin("/", s, w), total)
        front = Bin("+", Bin("/", w, Bin("-", s, Num(1.0))), Bin("+", Num(0.5), tail))
        return Bin("*", _power(w, negated(s)), front)


def _positive(e: Expr) -> Expr:
    """The argument where it is above 0, any such number where it is not."""
    return select(Bin("<=", e, Num(0)), Num(1.0), e)


def _part(e: Expr) -> Expr:
    """What is above the whole part; any number where that is nothing."""
    part = Bin("-", e, Call("floor", (e,)))
    return select(Bin("==", part, Num(0)), Num(0.5), part)


def _integers(node: Node, s: Value, q: Value, hurwitz: Hurwitz) -> Value:
    """zeta(s, q) for integers s and any q but 0, -1, ...

    Below 0 the terms before 1 - q, with the sign of (-1)^s, are the difference of two zetas.
    """
    right = hurwitz("right", step(node, "right_q", _positive, q))
    low = hurwitz("low", step(node, "low_q", _part, q))
    high = hurwitz("high", step(node, "high_q", lambda e: Bin("-", Num(1.0), _part(e)), q))
    away = hurwitz("away", step(node, "away_q", lambda e: Bin(
        "-", Num(1.0), Call("min", (e, Num(0.0)))), q))  # fmt: skip

    def f(n: Expr, e: Expr, *parts: Expr) -> Expr:
        after, below, first, last = parts
        between = Bin("-", first, last)
        even = Bin("==", Bin("*", Num(2.0), Call("floor", (Bin("*", n, Num(0.5)),))), n)
        sign = select(even, Num(1.0), Num(-1.0))
        return select(Bin(">", e, Num(0)), after, Bin("+", below, Bin("*", sign, between)))

    return step(node, "sum", f, s, q, right, low, high, away)


@aten("special_zeta.default", "special_zeta.self_scalar", "special_zeta.other_scalar")
def zeta(node: Node, s: Operand, q: Operand) -> Value:
    """Infinite at s = 1 and at the poles of q; NaN below s = 1, and for q < 0 unless s is whole."""
    exponent = step(node, "s", lambda e: e, s)
    base = step(node, "q", lambda e: e, q)
    above = step(node, "above", lambda e: select(
        Bin("<=", e, Num(1)), Num(2.0), e), exponent)  # fmt: skip
    found = _integers(node, above, base, Hurwitz(node, above))

    def f(n: Expr, e: Expr, v: Expr) -> Expr:
        inf, nan = Num(math.inf), Num(math.nan)
        whole = Bin("==", Call("floor", (n,)), n)
        left = select(whole, v, nan)
        pole = select(Bin("==", Call("floor", (e,)), e), inf, left)
        out = select(Bin("<=", e, Num(0)), pole, v)
        out = select(Bin("<", n, Num(1)), nan, out)
        return select(Bin("==", n, Num(1)), inf, out)

    return mapped(node, f, exponent, base, found)


@aten("polygamma.default")
def polygamma(node: Node, n: int, x: Value) -> Value:
    """The n-th derivative of digamma: (-1)^(n+1) n! zeta(n + 1, x)."""
    if not n:
        return digamma(node, x)
    base = step(node, "x", lambda e: e, x)
    s = constant(float(n + 1), DType.F64, node.shape)
    found = _integers(node, s, base, Hurwitz(node, s))
    scale = Num((-1.0) ** (n + 1) * math.factorial(n))

    def f(e: Expr, v: Expr) -> Expr:
        pole = Bin("and", Bin("<=", e, Num(0)), Bin("==", Call("floor", (e,)), e))
        return Bin("*", scale, select(pole, Num(math.inf), v))

    return mapped(node, f, base, found)
