"""Polynomials that stand for functions: their coefficients are computed here, exactly where the
function has a power series, else from an integral, so that no table is copied."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from ke_ir.expr import Bin, Expr, Num

Coefficients = tuple[float, ...]
"""From the constant one up."""
_NODES = 40


def horner(coefficients: Sequence[float], t: Expr) -> Expr:
    """``t`` should be a short expression: it stands there once for each coefficient."""
    total: Expr = Num(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = Bin("+", Num(c), Bin("*", t, total))
    return total


def recentred(coefficients: Sequence[Fraction], middle: int, half: int) -> Coefficients:
    """A power series in z as one in t, for z = middle + half * t with t from -1 to 1.

    Around 0 an alternating series loses what its largest terms are above its sum; around the
    middle the coefficients are as small as the function. Those below 1e-18 are left out.
    """
    out = []
    for j in range(len(coefficients)):
        total = sum((c * math.comb(k, j) * middle ** (k - j) for k, c in enumerate(coefficients)
                     if k >= j), Fraction(0))  # fmt: skip
        out.append(float(total * half**j))
    return shortened(out)


def shortened(coefficients: Sequence[float]) -> Coefficients:
    least = 1e-18 * max(map(abs, coefficients))
    last = max(k for k, c in enumerate(coefficients) if abs(c) > least)
    return tuple(coefficients[: last + 1])


def fitted(f: Callable[[float], float], tolerance: float = 4e-16) -> Coefficients:
    """A polynomial near ``f`` from -1 to 1: its Chebyshev interpolant, in powers.

    What it says at the nodes must be near to full precision; terms of the Chebyshev series below
    the tolerance are left out, which the powers of an interpolant would not allow.
    """
    n = _NODES
    cosines = [math.cos(math.pi * k / (2 * n)) for k in range(4 * n)]
    values = [f(cosines[2 * k + 1]) for k in range(n)]

    def term(j: int) -> float:
        total = math.fsum(v * cosines[(2 * k + 1) * j % (4 * n)] for k, v in enumerate(values))
        return total * (2 if j else 1) / n

    series = [term(j) for j in range(n)]
    largest = max(map(abs, series))
    last = max(j for j, c in enumerate(series) if abs(c) > tolerance * largest)
    return _in_powers(series[: last + 1])


def _in_powers(series: Sequence[float]) -> Coefficients:
    """A sum of Chebyshev polynomials as one of powers, without rounding on the way."""
    out = [Fraction(0)] * len(series)
    one, two = [Fraction(1)], [Fraction(0), Fraction(1)]
    for c in series:
        for k, x in enumerate(one):
            out[k] += Fraction(c) * x
        double = [Fraction(0), *(2 * x for x in two)]
        rest = [*one, *[Fraction(0)] * (len(double) - len(one))]
        one, two = two, [a - b for a, b in zip(double, rest, strict=True)]
    return tuple(map(float, out))


def over_positive(f: Callable[[float], complex]) -> complex:
    """The integral of ``f`` over t > 0 by the trapezoidal rule in log t.

    For functions that are analytic near the axis and fall like exp(-t) or faster, at 0 like
    t^(-1/2) or slower, it is exact to a few roundings.
    """
    width = 0.125
    terms = [f(t) * t for t in (math.exp(k * width) for k in range(-680, 40))]
    return width * complex(math.fsum(t.real for t in terms), math.fsum(t.imag for t in terms))


def hankel(order: float, z: complex) -> complex:
    """exp(z) K(z) sqrt(2 z / pi), K the modified Bessel function of the second kind.

    By Hankel's integral (DLMF 10.32.8), int e^-t t^(order-1/2) (1 + t/2z)^(order-1/2) dt over
    t > 0, divided by gamma(order + 1/2).
    """
    half = order - 0.5
    total = over_positive(lambda t: math.exp(-t) * t**half * (1 + t / (2 * z)) ** half)
    return total / math.gamma(order + 0.5)
