"""Inverses of the error function and of the normal distribution, and exp(x^2) erfc(x)."""

from __future__ import annotations

import math
from functools import cache

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.pointwise import mapped, step
from ke_ir.importers.aten.series import Coefficients, fitted, horner, over_positive
from ke_ir.importers.aten.terms import absolute, negated, select
from ke_ir.importers.graph import Value
from ke_ir.importers.registry import Node, aten

# M. J. Wichura, Algorithm AS 241, Applied Statistics 37 (1988): the quantile of the normal
# distribution as three quotients of polynomials, relative error about 1e-16. Constants first.
MIDDLE = (
    (3.3871328727963666080, 1.3314166789178437745e2, 1.9715909503065514427e3,
     1.3731693765509461125e4, 4.5921953931549871457e4, 6.7265770927008700853e4,
     3.3430575583588128105e4, 2.5090809287301226727e3),
    (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
     2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4,
     5.2264952788528545610e3),
)  # fmt: skip
"""In 0.180625 - q^2, times q, for p = 1/2 + q."""
SIDE = (
    (1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550,
     3.64784832476320460504, 1.27045825245236838258, 2.41780725177450611770e-1,
     2.27238449892691845833e-2, 7.74545014278341407640e-4),
    (1.0, 2.05319162663775882187, 1.67638483018380384940, 6.89767334985100004550e-1,
     1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
     1.05075007164441684324e-9),
)  # fmt: skip
"""In r - 1.6, for r = sqrt(-log p) up to 5."""
TAIL = (
    (6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580,
     2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
     2.71155556874348757815e-5, 2.01033439929228813265e-7),
    (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
     7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
     2.04426310338993978564e-15),
)  # fmt: skip
"""In r - 5."""
_MIDDLE_ENDS, _SIDE_ENDS = 0.425, 5.0


def _quotient(parts: tuple[Coefficients, Coefficients], t: Expr) -> Expr:
    return Bin("/", horner(parts[0], t), horner(parts[1], t))


def _quantile(node: Node, q: Value, p: Value) -> Value:
    """Of the normal distribution at 1/2 + q, without its ends; ``p`` is what is left beyond,
    1/2 - |q|, known apart because it may be small."""
    inner = step(node, "square", lambda e: Call(
        "max", (Bin("-", Num(0.180625), Bin("*", e, e)), Num(0.0))), q)  # fmt: skip
    middle = step(node, "middle", lambda e, s: Bin("*", e, _quotient(MIDDLE, s)), q, inner)
    least = Num(1e-320 if node.dtype.bits == 64 else 1e-45)
    r = step(node, "root", lambda e: Call("sqrt", (negated(Call(
        "log", (Call("min", (Call("max", (e, least)), Num(0.5))),))),)), p)  # fmt: skip
    near = step(node, "side", lambda e: _quotient(SIDE, Bin("-", Call(
        "min", (e, Num(_SIDE_ENDS))), Num(1.6))), r)  # fmt: skip
    far = step(node, "tail", lambda e: _quotient(TAIL, Bin("-", Call(
        "max", (e, Num(_SIDE_ENDS))), Num(5.0))), r)  # fmt: skip

    def f(e: Expr, m: Expr, root: Expr, a: Expr, b: Expr) -> Expr:
        size = select(Bin("<=", root, Num(_SIDE_ENDS)), a, b)
        outer = select(Bin("<", e, Num(0)), negated(size), size)
        return select(Bin("<=", absolute(e), Num(_MIDDLE_ENDS)), m, outer)

    return step(node, "quantile", f, q, middle, r, near, far)


def _ended(e: Expr, size: float, low: float, found: Expr) -> Expr:
    """Infinities at ``low`` and ``size``; NaN beyond, and for NaN."""
    high = select(Bin("==", e, Num(size)), Num(math.inf), Num(math.nan))
    ends = select(Bin("==", e, Num(low)), Num(-math.inf), high)
    inside = Bin("and", Bin(">", e, Num(low)), Bin("<", e, Num(size)))
    return select(inside, found, ends)


@aten("erfinv.default", "special_erfinv.default")
def erfinv(node: Node, x: Value) -> Value:
    """The quantile at (1 + x) / 2, over the root of 2."""
    q = step(node, "half", lambda e: Bin("*", Num(0.5), e), x)
    p = step(node, "beyond", lambda e: Bin(
        "*", Num(0.5), Bin("-", Num(1.0), absolute(e))), x)  # fmt: skip
    found = _quantile(node, q, p)
    return mapped(node, lambda e, v: _ended(
        e, 1.0, -1.0, Bin("*", Num(math.sqrt(0.5)), v)), x, found)  # fmt: skip


@aten("special_ndtri.default")
def ndtri(node: Node, x: Value) -> Value:
    q = step(node, "middle_off", lambda e: Bin("-", e, Num(0.5)), x)
    p = step(node, "beyond", lambda e: Call("min", (e, Bin("-", Num(1.0), e))), x)
    found = _quantile(node, q, p)
    return mapped(node, lambda e, v: _ended(e, 1.0, 0.0, v), x, found)


_SPLIT = 4.0


@cache
def _scaled_erfc() -> Coefficients:
    """(1 + 2 x) exp(x^2) erfc(x), in t = (x - 4) / (x + 4) from -1 to 1.

    From the integral of 2 / sqrt(pi) exp(-s^2 - 2 x s) over s > 0. That mapping of the half line
    is M. Shepherd's and J. Laframboise's, Math. Comp. 36 (1981).
    """

    def at(t: float) -> float:
        x = _SPLIT * (1 + t) / (1 - t)
        total = over_positive(lambda s: math.exp(-s * (s + 2 * x)))
        return 2 / math.sqrt(math.pi) * (1 + 2 * x) * total.real

    return fitted(at)


@aten("special_erfcx.default", "prims.erfcx.default")
def erfcx(node: Node, x: Value) -> Value:
    size = step(node, "size", absolute, x)
    t = step(node, "t", lambda e: Bin("-", Num(1.0), Bin(
        "/", Num(2 * _SPLIT), Bin("+", e, Num(_SPLIT)))), size)  # fmt: skip
    right = step(node, "right", lambda e, m: Bin("/", horner(_scaled_erfc(), m), Bin(
        "+", Num(1.0), Bin("*", Num(2.0), e))), size, t)  # fmt: skip

    def f(e: Expr, v: Expr) -> Expr:
        left = Bin("-", Bin("*", Num(2.0), Call("exp", (Bin("*", e, e),))), v)
        return select(Bin("<", e, Num(0)), left, v)

    return mapped(node, f, x, right)
