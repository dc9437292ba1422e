"""Bessel functions: polynomials in x near 0, and Hankel's expansions as polynomials in 1 / x far.

Power series and asymptotic ones are those of DLMF chapter 10; ``series`` says how coefficients
come about. Relative errors in float64 are below 1e-13, for J and Y relative to their envelope.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.pointwise import mapped, step
from ke_ir.importers.aten.series import (
    Coefficients,
    fitted,
    hankel,
    horner,
    recentred,
    shortened,
)
from ke_ir.importers.aten.terms import absolute, negated, plus, select, times
from ke_ir.importers.graph import Value
from ke_ir.importers.registry import Node, aten

EULER = Fraction(0.5772156649015329)
_J_ENDS = 8
"""Up to here J and Y are polynomials in x^2, around the middle of that range."""
_I_ENDS = 16
_K_ENDS = 2
_TERMS = 60


def _square(e: Expr) -> Expr:
    return Bin("*", e, e)


def _near(e: Expr, end: float) -> Expr:
    """The argument where a formula for small ones is used; any other is not read."""
    return Call("min", (absolute(e), Num(float(end))))


def _far(e: Expr, end: float) -> Expr:
    return Call("max", (absolute(e), Num(float(end))))


# Power series, in w = (x / 2)^2 with the sign s


def _power(order: int, sign: int, of: Callable[[int], Fraction] = lambda k: Fraction(1)
           ) -> list[Fraction]:  # fmt: skip
    """Of (x/2)^-order times J (sign -1) or I (sign 1), each term multiplied with ``of``."""
    return [sign**k * of(k) / (math.factorial(k) * math.factorial(k + order))
            for k in range(_TERMS)]  # fmt: skip


def _harmonic(k: int) -> Fraction:
    return sum((Fraction(1, j) for j in range(1, k + 1)), Fraction(0))


def _second(order: int) -> Callable[[int], Fraction]:
    """psi(k + 1) + psi(k + 1 + order), of the series of the second kind."""
    return lambda k: _harmonic(k) + _harmonic(k + order) - 2 * EULER


@cache
def _alternating(order: int, second: bool) -> Coefficients:
    """Of J / (x/2)^order, or of what Y has beside its logarithm and its pole, in t."""
    series = _power(order, -1, _second(order)) if second else _power(order, -1)
    middle = _J_ENDS * _J_ENDS // 8
    return recentred(series, middle, middle)


@cache
def _growing(order: int, second: bool, end: int) -> Coefficients:
    """The same of I and K, in (x / end)^2: all terms of I have one sign."""
    series = _power(order, 1, _second(order)) if second else _power(order, 1)
    return shortened([float(c * (end * end // 4) ** k) for k, c in enumerate(series)])


# J and Y


@cache
def waves(order: float, end: float) -> tuple[Coefficients, Coefficients]:
    """P, and Q times x / end, of sqrt(2 / pi x) (P cos - Q sin), in t = 2 (end / x)^2 - 1."""

    def at(t: float) -> complex:
        return hankel(order, complex(0, -end / math.sqrt((1 + t) / 2)))

    def slope(t: float) -> float:
        return at(t).imag / math.sqrt((1 + t) / 2)

    return fitted(lambda t: at(t).real), fitted(slope)


def _middle(e: Expr) -> Expr:
    """t from -1 to 1 for x from 0 to its end."""
    near = _near(e, _J_ENDS)
    return Bin("-", times(Num(2 / _J_ENDS**2), near, near), Num(1.0))


def _inverse(e: Expr) -> Expr:
    return Bin("/", Num(float(_J_ENDS)), _far(e, _J_ENDS))


def _near_j(node: Node, order: int, x: Value, t: Value) -> Value:
    """J of |x|."""

    def f(e: Expr, m: Expr) -> Expr:
        found = horner(_alternating(order, False), m)
        return times(Num(0.5), _near(e, _J_ENDS), found) if order else found

    return step(node, "near", f, x, t)


def _far_waves(node: Node, order: int, x: Value, second: bool) -> Value:
    """sqrt(2 / pi x) (P cos(x - a) - Q sin(x - a)), or (P sin + Q cos), a = pi/4 + order pi/2.

    The shift is taken apart, so that nothing is rounded from a large argument.
    """
    p, q = waves(order, _J_ENDS)
    r = step(node, "inverse", _inverse, x)
    t = step(node, "far_t", lambda i: Bin("-", times(Num(2.0), i, i), Num(1.0)), r)
    even = step(node, "even", lambda e: horner(p, e), t)
    odd = step(node, "odd", lambda e, i: times(i, horner(q, e)), t, r)

    def f(e: Expr, a: Expr, b: Expr) -> Expr:
        y = _far(e, _J_ENDS)
        c, s = Call("cos", (y,)), Call("sin", (y,))
        total, rest = plus(c, s), Bin("-", s, c)
        cos, sin = (rest, negated(total)) if order else (total, rest)  # both times sqrt(2)
        wave = (plus(times(a, sin), times(b, cos)) if second
                else Bin("-", times(a, cos), times(b, sin)))  # fmt: skip
        return times(Call("rsqrt", (times(Num(math.pi), y),)), wave)

    return step(node, "far", f, x, even, odd)


def _bessel_j(node: Node, order: int, x: Value) -> Value:
    near = _near_j(node, order, x, step(node, "t", _middle, x))
    far = _far_waves(node, order, x, False)

    def f(e: Expr, a: Expr, b: Expr) -> Expr:
        found = select(Bin("<=", absolute(e), Num(float(_J_ENDS))), a, b)
        return select(Bin("<", e, Num(0)), negated(found), found) if order else found

    return mapped(node, f, x, near, far)


def _bessel_y(node: Node, order: int, x: Value) -> Value:
    t = step(node, "t", _middle, x)
    first = _near_j(node, order, x, t)

    def near(e: Expr, m: Expr, j: Expr) -> Expr:
        y = _near(e, _J_ENDS)
        log = times(Num(2 / math.pi), Call("log", (times(Num(0.5), y),)), j)
        rest = times(Num(-1 / math.pi), horner(_alternating(order, True), m))
        if not order:
            return plus(log, rest)
        rest = times(rest, Num(0.5), y)
        return Bin("-", plus(log, rest), Bin("/", Num(2 / math.pi), y))

    close = step(node, "second", near, x, t, first)
    far = _far_waves(node, order, x, True)

    def f(e: Expr, a: Expr, b: Expr) -> Expr:
        found = select(Bin("<=", e, Num(float(_J_ENDS))), a, b)
        return _outside(e, -math.inf, found)

    return mapped(node, f, x, close, far)


def _outside(e: Expr, at_zero: float, found: Expr) -> Expr:
    """NaN below 0, and what is said at 0."""
    at = select(Bin("==", e, Num(0)), Num(at_zero), found)
    return select(Bin("<", e, Num(0)), Num(math.nan), at)


@aten("special_spherical_bessel_j0.default")
def spherical_bessel_j0(node: Node, x: Value) -> Value:
    """sin(x) / x; below 1/2 its series, which has no quotient."""
    series = [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(8)]
    square = step(node, "square", lambda e: times(_near(e, 0.5), _near(e, 0.5)), x)

    def f(e: Expr, w: Expr) -> Expr:
        away = Bin("/", Call("sin", (e,)), e)
        far = select(Bin("==", absolute(e), Num(math.inf)), Num(0.0), away)
        return select(Bin("<", absolute(e), Num(0.5)), horner(series, w), far)

    return mapped(node, f, x, square)


# I and K


@cache
def _grown(order: int) -> Coefficients:
    """exp(-x) I(x) sqrt(2 pi x) by its asymptotic series, in 16 / x.

    What is left out is below exp(-2 x), so 1e-13.
    """
    out, term = [], Fraction(1)
    for k in range(27):
        out.append(float(term / Fraction(_I_ENDS) ** k))
        term *= -Fraction(4 * order * order - (2 * k + 1) ** 2, 8 * (k + 1))
    return tuple(out)


def _scaled_i(node: Node, order: int, x: Value) -> Value:
    """exp(-|x|) I(|x|)."""
    w = step(node, "square", lambda e: _square(times(Num(1 / _I_ENDS), _near(e, _I_ENDS))), x)

    def near(e: Expr, v: Expr) -> Expr:
        y = _near(e, _I_ENDS)
        found = times(Call("exp", (negated(y),)),
                       horner(_growing(order, False, _I_ENDS), v))  # fmt: skip
        return times(Num(0.5), y, found) if order else found

    r = step(node, "inverse", lambda e: Bin("/", Num(float(_I_ENDS)), _far(e, _I_ENDS)), x)
    far = step(node, "far", lambda e, i: times(
        Call("rsqrt", (times(Num(2 * math.pi), _far(e, _I_ENDS)),)), horner(_grown(order), i)),
        x, r)  # fmt: skip
    return step(node, "scaled", lambda e, a, b: select(
        Bin("<=", absolute(e), Num(float(_I_ENDS))), a, b),
        x, step(node, "near", near, x, w), far)  # fmt: skip


def _bessel_i(node: Node, order: int, x: Value, scaled: bool) -> Value:
    size = _scaled_i(node, order, x)

    def f(e: Expr, v: Expr) -> Expr:
        found = v if scaled else times(v, Call("exp", (absolute(e),)))
        return select(Bin("<", e, Num(0)), negated(found), found) if order else found

    return mapped(node, f, x, size)


@cache
def _fallen(order: int) -> Coefficients:
    """exp(x) K(x) sqrt(2 x / pi), in t = 4 / x - 1."""
    return fitted(lambda t: hankel(order, complex(2 * _K_ENDS / (1 + t))).real)


def _bessel_k(node: Node, order: int, x: Value, scaled: bool) -> Value:
    w = step(node, "square", lambda e: _square(times(Num(1 / _K_ENDS), _near(e, _K_ENDS))), x)
    t = step(node, "t", lambda e: Bin(
        "-", Bin("/", Num(2.0 * _K_ENDS), _far(e, _K_ENDS)), Num(1.0)), x)  # fmt: skip

    def near(e: Expr, v: Expr) -> Expr:
        y = _near(e, _K_ENDS)
        first = horner(_growing(order, False, _K_ENDS), v)
        rest = times(Num(0.5), horner(_growing(order, True, _K_ENDS), v))
        log = Call("log", (times(Num(0.5), y),))
        found: Expr = Bin("-", rest, times(log, first))
        if order:
            part = times(Num(0.5), y, Bin("-", times(log, first), rest))
            found = plus(part, Bin("/", Num(1.0), y))
        return times(found, Call("exp", (y,))) if scaled else found

    def far(e: Expr, i: Expr) -> Expr:
        y = _far(e, _K_ENDS)
        found = times(Call("rsqrt", (times(Num(2 / math.pi), y),)), horner(_fallen(order), i))
        return found if scaled else times(found, Call("exp", (negated(y),)))

    close, away = step(node, "near", near, x, w), step(node, "far", far, x, t)
    return mapped(node, lambda e, a, b: _outside(
        e, math.inf, select(Bin("<=", e, Num(float(_K_ENDS))), a, b)), x, close, away)  # fmt: skip


def _register(names: Sequence[str], f: Callable[..., Value], *of: object) -> None:
    @aten(*(f"{name}.default" for name in names))
    def handler(node: Node, x: Value) -> Value:
        order, *scaled = of
        return f(node, order, x, *scaled)


for _n in (0, 1):
    _register((f"special_bessel_j{_n}",), _bessel_j, _n)
    _register((f"special_bessel_y{_n}",), _bessel_y, _n)
    _i = "i0" if _n == 0 else "special_i1"
    _register((_i, f"special_modified_bessel_i{_n}"), _bessel_i, _n, False)
    _register((f"special_i{_n}e",), _bessel_i, _n, True)
    _register((f"special_modified_bessel_k{_n}",), _bessel_k, _n, False)
    _register((f"special_scaled_modified_bessel_k{_n}",), _bessel_k, _n, True)
