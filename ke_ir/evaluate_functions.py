"""The functions of an op's expressions, and how rounding errors pass through them.

Every rule is first order in the errors of the arguments where the function is smooth, and exact
where it jumps: a comparison or a rounding that the error may turn is marked as in doubt. To that
comes the rounding of the function itself, ``ULPS`` unit roundoffs of the result. Four covers the
fast exponentials and reciprocals of GPUs (CUDA C++ Programming Guide, appendix on mathematical
functions: 2 ulp for ``exp2f``, ``rsqrtf`` and ``fdividef``; 1 ulp is 2 unit roundoffs).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ke_ir.evaluate_values import Array
from ke_ir.numerics import UNARY_FUNCTIONS

BINARY: dict[str, Callable[..., Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.true_divide, "//": np.floor_divide,
    "%": np.mod, "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
    "==": np.equal, "!=": np.not_equal, "and": np.logical_and, "or": np.logical_or,
    "min": np.minimum, "max": np.maximum,
    "pow": lambda a, b: np.power(np.asarray(a, np.float64), b),
}  # fmt: skip
"""Functions of two arguments; integers stay integers but under ``/`` and ``pow``."""

COMPARISONS = frozenset({"<", "<=", ">", ">=", "==", "!="})
CHOOSES = COMPARISONS | {"and", "or", "min", "max"}
"""Functions that do not round: exact of exact arguments."""
KEEPS_INTEGERS = frozenset({"abs", "floor", "ceil", "round", "trunc"})
JUMPS = frozenset({"floor", "ceil", "round", "trunc"})

ULPS = 4.0
EXACT = frozenset({"abs", *JUMPS})
# These may be computed from exp, or by polynomials fitted for absolute error.
ABSOLUTE_ULPS = {
    "tanh": 2.0,
    "erf": 2.0,
    "sin": 2.0,
    "cos": 2.0,
    "tan": 2.0,
    "log": 2.0,
    "log2": 2.0,
}


def unary(fn: str, x: Array) -> Array:
    """``fn`` of float64, int64 or bool."""
    if fn == "not":
        return np.logical_not(x)
    if x.dtype.kind == "i" and fn in KEEPS_INTEGERS:
        return np.abs(x) if fn == "abs" else x
    return np.asarray(UNARY_FUNCTIONS[fn](np.asarray(x, np.float64)))


def unary_error(fn: str, x: Array, ex: Array | float, v: Array, u: float) -> Array:
    """Bound on the error of ``v = fn(x)`` when ``x`` is known within ``ex``."""
    if fn in JUMPS:
        rounded = UNARY_FUNCTIONS[fn]
        moved: Array = np.maximum(np.abs(rounded(x + ex) - v), np.abs(rounded(x - ex) - v))
        return moved
    passed: Array = np.where(np.equal(ex, 0), 0.0, _PASSED[fn](x, ex, v))
    if fn in EXACT:
        return passed
    own = ULPS * u * _finite(v) + ABSOLUTE_ULPS.get(fn, 0.0) * u
    if fn in ("sin", "cos", "tan"):
        # The argument is reduced in the working precision.
        own = own + 2 * u * np.abs(x) * (1 + v * v if fn == "tan" else 1.0)
    total: Array = passed + own
    return total


def _low(x: Array, ex: Any) -> Array:
    """The smallest magnitude that the argument may have."""
    return np.asarray(np.maximum(np.abs(x) - ex, 0.0))


_PASSED: dict[str, Callable[[Array, Any, Array], Any]] = {
    "abs": lambda x, e, v: e,
    "exp": lambda x, e, v: v * np.expm1(e),
    "exp2": lambda x, e, v: v * np.expm1(np.log(2.0) * e),
    "log": lambda x, e, v: e / _low(x, e),
    "log2": lambda x, e, v: e / (np.log(2.0) * _low(x, e)),
    "sqrt": lambda x, e, v: np.minimum(np.sqrt(e), e / (2 * np.sqrt(_low(x, e)))),
    "rsqrt": lambda x, e, v: e / (2 * _low(x, e) ** 1.5),
    "sin": lambda x, e, v: np.minimum(e, 2.0),
    "cos": lambda x, e, v: np.minimum(e, 2.0),
    "tan": lambda x, e, v: e * (1 + (np.abs(v) + e) ** 2),
    "tanh": lambda x, e, v: np.minimum(e, 2.0),
    "sigmoid": lambda x, e, v: np.minimum(v * np.expm1(e), e / 4),
    "erf": lambda x, e, v: np.minimum(1.1284 * np.exp(-(_low(x, e) ** 2)) * e, 2.0),
}


def binary_error(
    op: str, a: Array, ea: Array | float, b: Array, eb: Array | float, v: Array, u: float
) -> Array | None:
    """Bound on the error of ``v = a op b``; bool where ``v`` is; None if it is exact."""
    integers = a.dtype.kind in "ib" and b.dtype.kind in "ib"
    if np.ndim(ea) == np.ndim(eb) == 0 and not ea and not eb and integers and op not in "/ pow":
        return None
    if op in COMPARISONS:
        doubt: Array = np.abs(a - 1.0 * b) <= np.asarray(ea) + eb
        # Exact operands compare exactly, and infinities are not in doubt (inf - inf is NaN).
        return doubt & (np.add(ea, eb) > 0)
    if op in ("and", "or"):
        return np.logical_or(ea, eb)
    if op in ("min", "max"):
        return np.maximum(ea, eb)
    if op in ("//", "%"):
        return _floor_error(op, a, ea, b, eb, v, u)
    return np.asarray(_smooth_error(op, a, ea, b, eb, v) + _OWN.get(op, 1.0) * u * _finite(v))


_OWN = {"/": ULPS, "pow": 4 * ULPS}


def _finite(v: Array) -> Array:
    """Magnitude to which rounding is relative: infinities are not rounded."""
    return np.where(np.isfinite(v), np.abs(v), 0.0)


def _times(x: Array, e: Any) -> Any:
    """|x| e, where no error of an infinite value is none."""
    return np.where(np.equal(e, 0), 0.0, np.abs(x) * e)


def _smooth_error(op: str, a: Array, ea: Any, b: Array, eb: Any, v: Array) -> Any:
    if op in "+-":
        return np.add(ea, eb)
    if op == "*":
        return _times(a, eb) + _times(b, ea) + np.multiply(ea, eb)
    if op == "/":
        return np.where(np.add(ea, eb) == 0, 0.0, (ea + np.abs(v) * eb) / _low(b, eb))
    with_base = np.abs(b / _low(a, ea)) * ea
    with_exponent = np.abs(np.log(np.abs(a))) * eb
    grown = np.where(np.equal(ea, 0), 0.0, with_base) + np.where(np.equal(eb, 0), 0, with_exponent)
    return np.abs(v) * np.expm1(grown)


def _floor_error(op: str, a: Array, ea: Any, b: Array, eb: Any, v: Array, u: float) -> Array:
    quotient = a / np.where(b == 0, 1.0, b)
    e = (ea + np.abs(quotient) * eb) / np.maximum(_low(b, eb), np.finfo(float).tiny)
    e = e + u * np.abs(quotient)
    doubt = np.floor(quotient + e) != np.floor(quotient - e)
    if op == "//":
        return np.where(doubt, 1.0 + np.floor(2 * e), 0.0)
    return np.where(doubt, np.abs(b), ea + np.abs(np.floor(quotient)) * eb + u * np.abs(v))


def select_error(
    c: Array, ec: Array | None, x: Array, ex: Array | float, y: Array, ey: Array | float
) -> Array:
    """Bound for a selection; where the condition is in doubt, both values are possible."""
    chosen = np.where(c, ex, ey)
    if ec is None or not ec.any():
        return chosen
    apart = np.where(x == y, 0.0, np.abs(x - 1.0 * y))
    return np.where(ec, apart + np.maximum(ex, ey), chosen)
