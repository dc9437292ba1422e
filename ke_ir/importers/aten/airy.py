"""The Airy function: a power series around -1, and what Bessel's of order 1/3 are far away."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.bessel import waves
from ke_ir.importers.aten.pointwise import mapped, step
from ke_ir.importers.aten.series import (
    Coefficients,
    fitted,
    hankel,
    horner,
    recentred,
)
from ke_ir.importers.aten.terms import absolute, negated, select
from ke_ir.importers.graph import Value
from ke_ir.importers.registry import Node, aten

_LOW, _HIGH = -4, 2
_TERMS = 60


def _zeta(x: float) -> float:
    return 2 / 3 * x * math.sqrt(x)


@cache
def _near() -> Coefficients:
    """Of Ai around the middle (DLMF 9.4.1); both of its series satisfy a[k + 3] (k + 2) (k + 3) =
    a[k]."""
    a = [Fraction(0.3550280538878172), Fraction(-0.2588194037928068), Fraction(0)]
    for k in range(_TERMS):
        a.append(a[k] / ((k + 2) * (k + 3)))
    return recentred(a, (_LOW + _HIGH) // 2, (_HIGH - _LOW) // 2)


@cache
def _falling() -> Coefficients:
    """2 sqrt(pi) x^(1/4) exp(zeta) Ai(x) in t, for zeta = 2/3 x^(3/2) = 2 zeta(end) / (1 + t)."""
    return fitted(lambda t: hankel(1 / 3, complex(2 * _zeta(_HIGH) / (1 + t))).real)


@aten("special_airy_ai.default")
def airy_ai(node: Node, x: Value) -> Value:
    """NaN at infinity, as PyTorch says."""
    middle, half = (_LOW + _HIGH) / 2, (_HIGH - _LOW) / 2
    t = step(node, "t", lambda e: Bin("/", Bin("-", Call(
        "min", (Call("max", (e, Num(float(_LOW)))), Num(float(_HIGH)))), Num(middle)), Num(half)),
        x)  # fmt: skip
    near = step(node, "near", lambda e: horner(_near(), e), t)
    right, left = _right(node, x), _left(node, x)

    def f(e: Expr, a: Expr, b: Expr, c: Expr) -> Expr:
        right_of = select(Bin(">", e, Num(_HIGH)), c, b)
        found = select(Bin("<", e, Num(_LOW)), a, right_of)
        return select(Bin("==", absolute(e), Num(math.inf)), Num(math.nan), found)

    return mapped(node, f, x, left, near, right)


def _reach(node: Node, suffix: str, size: Value, end: float) -> Value:
    """zeta(end) / zeta, from 1 down to 0."""
    return step(node, suffix, lambda e: Bin(
        "/", Num(float(end) ** 1.5), Bin("*", e, Call("sqrt", (e,)))), size)  # fmt: skip


def _right(node: Node, x: Value) -> Value:
    """exp(-zeta) / (2 sqrt(pi) x^(1/4)) times a function of 1 / zeta (DLMF 9.6.2)."""
    size = step(node, "right", lambda e: Call("max", (e, Num(float(_HIGH)))), x)
    reach = _reach(node, "right_reach", size, _HIGH)
    t = step(node, "right_t", lambda r: Bin("-", Bin("*", Num(2.0), r), Num(1.0)), reach)

    def f(e: Expr, m: Expr) -> Expr:
        root = Call("sqrt", (e,))
        fall = Call("exp", (Bin("*", Num(-2 / 3), Bin("*", e, root)),))
        front = Bin("*", Num(0.5 / math.sqrt(math.pi)), Call("rsqrt", (root,)))
        return Bin("*", Bin("*", front, fall), horner(_falling(), m))

    return step(node, "falling", f, size, t)


def _left(node: Node, x: Value) -> Value:
    """(P cos(zeta - pi/4) - Q sin(zeta - pi/4)) / (sqrt(pi) |x|^(1/4)) (DLMF 9.6.6)."""
    p, q = waves(1 / 3, _zeta(-_LOW))
    size = step(node, "left", lambda e: Call("max", (negated(e), Num(float(-_LOW)))), x)
    reach = _reach(node, "left_reach", size, -_LOW)
    t = step(node, "left_t", lambda r: Bin(
        "-", Bin("*", Num(2.0), Bin("*", r, r)), Num(1.0)), reach)  # fmt: skip
    even = step(node, "even", lambda m: horner(p, m), t)
    odd = step(node, "odd", lambda m, r: Bin("*", r, horner(q, m)), t, reach)

    def f(e: Expr, a: Expr, b: Expr) -> Expr:
        root = Call("sqrt", (e,))
        zeta = Bin("*", Num(2 / 3), Bin("*", e, root))
        c, s = Call("cos", (zeta,)), Call("sin", (zeta,))
        wave = Bin("-", Bin("*", a, Bin("+", c, s)), Bin("*", b, Bin("-", s, c)))
        front = Bin("*", Num(math.sqrt(0.5 / math.pi)), Call("rsqrt", (root,)))
        return Bin("*", front, wave)

    return step(node, "waves", f, size, even, odd)
