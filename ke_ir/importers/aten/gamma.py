"""The gamma function's logarithm and its derivative, as formulas."""

from __future__ import annotations

import math

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.pointwise import mapped, step
from ke_ir.importers.aten.terms import absolute, select
from ke_ir.importers.graph import Value
from ke_ir.importers.registry import Node, aten

LANCZOS = (
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313,
    -176.61502916214059, 12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6,
    1.5056327351493116e-7,
)  # fmt: skip
"""Coefficients for g = 7 (C. Lanczos, SIAM J. Numer. Anal. 1964)."""
SERIES = (-1 / 12, 1 / 120, -1 / 252, 1 / 240, -1 / 132)
"""Of digamma in 1 / x^2: Bernoulli numbers over twice their place."""
_SHIFT = 10


def _turned(e: Expr) -> Expr:
    """Below 1/2, the argument on the other side of it."""
    return select(Bin("<", e, Num(0.5)), Bin("-", Num(1.0), e), e)


def _pole(e: Expr) -> Expr:
    return Bin("and", Bin("<=", e, Num(0)), Bin("==", Call("floor", (e,)), e))


def _angle(e: Expr) -> Expr:
    """pi times what lies above the whole part: sin and tan of it are those of pi e, but signs."""
    return Bin("*", Num(math.pi), Bin("-", e, Call("floor", (e,))))


@aten("lgamma.default")
def lgamma(node: Node, x: Value) -> Value:
    inner = step(node, "turned", _turned, x)

    def right(e: Expr) -> Expr:
        z = Bin("-", e, Num(1.0))
        total: Expr = Num(LANCZOS[0])
        for k, c in enumerate(LANCZOS[1:], 1):
            total = Bin("+", total, Bin("/", Num(c), Bin("+", z, Num(float(k)))))
        t = Bin("+", z, Num(7.5))
        power = Bin("-", Bin("*", Bin("+", z, Num(0.5)), Call("log", (t,))), t)
        found = Bin("+", Bin("+", Num(0.5 * math.log(2 * math.pi)), power), Call("log", (total,)))
        return select(Bin("==", e, Num(math.inf)), e, found)

    def whole(e: Expr, turned: Expr) -> Expr:
        sine = absolute(Call("sin", (_angle(e),)))
        left = Bin("-", Num(math.log(math.pi)), Bin("+", Call("log", (sine,)), right(turned)))
        found = select(Bin("<", e, Num(0.5)), left, right(turned))
        return select(_pole(e), Num(math.inf), found)

    return mapped(node, whole, x, inner)


@aten("digamma.default")
def digamma(node: Node, x: Value) -> Value:
    inner = step(node, "turned", _turned, x)

    def right(e: Expr) -> Expr:
        below: Expr = Num(0.0)
        for k in range(_SHIFT):
            below = Bin("+", below, Bin("/", Num(1.0), Bin("+", e, Num(float(k)))))
        y = Bin("+", e, Num(float(_SHIFT)))
        square = Bin("/", Num(1.0), Bin("*", y, y))
        tail: Expr = Num(0.0)
        for c in reversed(SERIES):
            tail = Bin("*", square, Bin("+", Num(c), tail))
        high = Bin("-", Call("log", (y,)), Bin("/", Num(0.5), y))
        return Bin("-", Bin("+", high, tail), below)

    def whole(e: Expr, turned: Expr) -> Expr:
        left = Bin("-", right(turned), Bin("/", Num(math.pi), Call("tan", (_angle(e),))))
        found = select(Bin("<", e, Num(0.5)), left, right(turned))
        at_zero = Bin("/", Num(-1.0), e)
        special = select(Bin("==", e, Num(0)), at_zero, Num(math.nan))
        return select(_pole(e), special, found)

    return mapped(node, whole, x, inner)
