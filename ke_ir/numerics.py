"""The arithmetic of KE-IR on numpy arrays: functions of the ops, and rounding to every dtype.

Functions compute in the dtype of their arguments: float64 for the exact meaning, float32 for
everything narrower (callers round the result), and the integer's own width, wrapping, for
integers. None of them writes to its arguments. Callers silence numpy's floating-point warnings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ke_ir.types import DType

Array = np.ndarray[Any, Any]

# Rational approximations of erf on [0, 0.84375], [0.84375, 1.25], [1.25, 1/0.35], [1/0.35, 6],
# from fdlibm's s_erf.c (Sun Microsystems, 1993); coefficients from the lowest order up.
_ERF_PP = (
    1.28379167095512558561e-01, -3.25042107247001499370e-01, -2.84817495755985104766e-02,
    -5.77027029648944159157e-03, -2.37630166566501626084e-05,
)  # fmt: skip
_ERF_QQ = (
    1.0, 3.97917223959155352819e-01, 6.50222499887672944485e-02, 5.08130628187576562776e-03,
    1.32494738004321644526e-04, -3.96022827877536812320e-06,
)  # fmt: skip
_ERF_PA = (
    -2.36211856075265944077e-03, 4.14856118683748331666e-01, -3.72207876035701323847e-01,
    3.18346619901161753674e-01, -1.10894694282396677476e-01, 3.54783043256182359371e-02,
    -2.16637559486879084300e-03,
)  # fmt: skip
_ERF_QA = (
    1.0, 1.06420880400844228286e-01, 5.40397917702171048937e-01, 7.18286544141962662868e-02,
    1.26171219808761642112e-01, 1.36370839120290507362e-02, 1.19844998467991074170e-02,
)  # fmt: skip
_ERF_RA = (
    -9.86494403484714822705e-03, -6.93858572707181764372e-01, -1.05586262253232909814e+01,
    -6.23753324503260060396e+01, -1.62396669462573470355e+02, -1.84605092906711035994e+02,
    -8.12874355063065934246e+01, -9.81432934416914548592e+00,
)  # fmt: skip
_ERF_SA = (
    1.0, 1.96512716674392571292e+01, 1.37657754143519042600e+02, 4.34565877475229228821e+02,
    6.45387271733267880336e+02, 4.29008140027567833386e+02, 1.08635005541779435134e+02,
    6.57024977031928170135e+00, -6.04244152148580987438e-02,
)  # fmt: skip
_ERF_RB = (
    -9.86494292470009928597e-03, -7.99283237680523006574e-01, -1.77579549177547519889e+01,
    -1.60636384855821916062e+02, -6.37566443368389627722e+02, -1.02509513161107724954e+03,
    -4.83519191608651397019e+02,
)  # fmt: skip
_ERF_SB = (
    1.0, 3.03380607434824582924e+01, 3.25792512996573918826e+02, 1.53672958608443695994e+03,
    3.19985821950859553908e+03, 2.55305040643316442583e+03, 4.74528541206955367215e+02,
    -2.24409524465858183362e+01,
)  # fmt: skip
_ERF_ONE = 8.45062911510467529297e-01  # erf(1) rounded to float32: the middle interval's base

AT_ONCE = 1 << 26
"""Elements of a tensor up to which it is widened as a whole (512 MiB of float64). Of a larger one,
only what is read at a time: weights may be of gigabytes."""


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    out = np.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        out *= x
        out += c
    return out


def _erf_small(x: Array) -> Array:
    z = x * x
    return x + x * (_polynomial(_ERF_PP, z) / _polynomial(_ERF_QQ, z))


def _erf_middle(x: Array) -> Array:
    s = np.abs(x) - 1.0
    return np.copysign(_ERF_ONE + _polynomial(_ERF_PA, s) / _polynomial(_ERF_QA, s), x)


def _erf_tail(p: tuple[float, ...], q: tuple[float, ...]) -> Callable[[Array], Array]:
    def tail(x: Array) -> Array:
        a = np.abs(x)
        s = 1.0 / (a * a)
        r = np.exp(-a * a - 0.5625 + _polynomial(p, s) / _polynomial(q, s))
        return np.copysign(1.0 - r / a, x)

    return tail


_ERF_PIECES = (
    (0.84375, _erf_small),
    (1.25, _erf_middle),
    (1 / 0.35, _erf_tail(_ERF_RA, _ERF_SA)),
    (6.0, _erf_tail(_ERF_RB, _ERF_SB)),
)


def erf(x: Array) -> Array:
    """The error function, within about 2 units in the last place of float64.

    Takes float32 or float64 of any shape and gives the same dtype and shape. NaN gives NaN.
    """
    wide = np.asarray(x, np.float64).ravel()
    out = np.copysign(np.where(np.isnan(wide), np.nan, 1.0), wide)
    size = np.abs(wide)
    low = -1.0
    for high, piece in _ERF_PIECES:
        at = np.flatnonzero((size > low) & (size <= high))
        if at.size:
            out[at] = piece(wide[at])
        low = high
    result: Array = out.astype(x.dtype).reshape(np.shape(x))
    return result


def _sigmoid(x: Array) -> Array:
    one = x.dtype.type(1)
    result: Array = one / (one + np.exp(-x))
    return result


def _rsqrt(x: Array) -> Array:
    result: Array = x.dtype.type(1) / np.sqrt(x)
    return result


UNARY_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp, "exp2": np.exp2, "log": np.log, "log2": np.log2, "sqrt": np.sqrt,
    "rsqrt": _rsqrt, "sin": np.sin, "cos": np.cos, "tan": np.tan, "tanh": np.tanh,
    "sigmoid": _sigmoid, "erf": erf, "floor": np.floor, "ceil": np.ceil, "round": np.rint,
    "trunc": np.trunc, "abs": np.abs, "neg": np.negative, "not": np.invert,
}  # fmt: skip
BINARY_FUNCTIONS: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "min": np.minimum, "max": np.maximum,
    "div": np.divide, "floordiv": np.floor_divide, "mod": np.mod, "pow": np.power,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "shl": np.left_shift,
    "shr": np.right_shift,
}  # fmt: skip
COMPARE_FUNCTIONS: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip


def _arg(find: Callable[..., Any]) -> Callable[[Array, int], Array]:
    return lambda x, dim: find(x, axis=dim).astype(np.int32)


REDUCE_FUNCTIONS: dict[str, Callable[[Array, int], Array]] = {
    # The dtype is said because numpy would widen small integers.
    "sum": lambda x, dim: np.add.reduce(x, axis=dim, dtype=x.dtype),
    "prod": lambda x, dim: np.multiply.reduce(x, axis=dim, dtype=x.dtype),
    "max": lambda x, dim: np.maximum.reduce(x, axis=dim),
    "min": lambda x, dim: np.minimum.reduce(x, axis=dim),
    "argmax": _arg(np.argmax),
    "argmin": _arg(np.argmin),
    "any": lambda x, dim: np.logical_or.reduce(x, axis=dim),
    "all": lambda x, dim: np.logical_and.reduce(x, axis=dim),
}
"""Reductions of one dimension: ``REDUCE_FUNCTIONS[kind](x, dim)``, without that dimension."""

_SCANS: dict[str, np.ufunc] = {
    "sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum,
}  # fmt: skip


def scan(kind: str, x: Array, dim: int, reverse: bool = False) -> Array:
    """Inclusive prefixes (suffixes if ``reverse``) of ``sum prod max min`` along ``dim``."""
    if reverse:
        return np.flip(scan(kind, np.flip(x, dim), dim), dim)
    ufunc = _SCANS[kind]
    if kind in ("sum", "prod"):
        return ufunc.accumulate(x, axis=dim, dtype=x.dtype)
    return ufunc.accumulate(x, axis=dim)


def dot(a: Array, b: Array, acc: Array | None, precision: str = "ieee") -> Array:
    """[.., M, K] x [.., K, N] (+ [.., M, N]) at one of the IR's precisions.

    float64 gives float64 and float32 gives float32 (narrower floats come widened, which is exact);
    8-bit integers give int32, wrapping. The parts of ``tf32x3 bf16x3 bf16x6`` are multiplied
    exactly and added in float32, smallest products first.
    """
    out: Array
    if a.dtype.kind in "iu":
        out = _integer_dot(a, b)
    elif precision == "ieee":
        out = np.matmul(a, b)
    else:
        out = _split_dot(a, b, precision)
    return out if acc is None else out + acc


def _integer_dot(a: Array, b: Array) -> Array:
    # Products of 8-bit integers summed in float64 are exact below 2^53, and that is BLAS.
    exact: Array = np.matmul(a.astype(np.float64), b.astype(np.float64))
    return exact.astype(np.int64).astype(np.int32)


_SPLITS: dict[str, tuple[int, Callable[[Array], Array], tuple[tuple[int, int], ...]]] = {
    "tf32": (1, lambda x: round_tf32(x), ((0, 0),)),
    "tf32_even": (1, lambda x: round_tf32_even(x), ((0, 0),)),
    "tf32x3": (2, lambda x: round_tf32(x), ((1, 0), (0, 1), (0, 0))),
    "bf16x3": (2, lambda x: round_bf16(x), ((1, 0), (0, 1), (0, 0))),
    "bf16x6": (
        3, lambda x: round_bf16(x), ((2, 0), (0, 2), (1, 1), (1, 0), (0, 1), (0, 0)),
    ),
}  # fmt: skip


def split(x: Array, parts: int, round_part: Callable[[Array], Array]) -> list[Array]:
    """``x`` as a sum of ``parts`` rounded values, largest first; what remains is dropped."""
    out: list[Array] = []
    rest = x
    for _ in range(parts):
        out.append(round_part(rest))
        rest = rest - out[-1]
    return out


def _split_dot(a: Array, b: Array, precision: str) -> Array:
    parts, round_part, products = _SPLITS[precision]
    xs, ys = split(a, parts, round_part), split(b, parts, round_part)
    i, j = products[0]
    out: Array = np.matmul(xs[i], ys[j])
    for i, j in products[1:]:
        out = out + np.matmul(xs[i], ys[j])
    return out


def round_tf32(x: Array) -> Array:
    """float32 to 10 explicit significand bits, ties away from zero (PTX ``cvt.rna.tf32.f32``)."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(x), rounded, x)


def round_tf32_even(x: Array) -> Array:
    """float32 to 10 explicit significand bits, ties to even (PTX ``cvt.rn.tf32.f32``)."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    even = np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))
    rounded = ((bits + even) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(x), rounded, x)


def _to_odd_float32(x: Array) -> Array:
    """float64 to float32 with the last bit sticky, so that a further rounding is not a second."""
    near = x.astype(np.float32)
    bits = near.view(np.uint32)
    inexact = (near.astype(np.float64) != x) & np.isfinite(near)
    # Truncate toward zero where rounding went away from it, then set the sticky bit.
    away = inexact & (np.abs(near.astype(np.float64)) > np.abs(x))
    odd: Array = np.where(away, bits - np.uint32(1), bits) | inexact.astype(np.uint32)
    return odd.astype(np.uint32).view(np.float32)


def round_bf16(x: Array) -> Array:
    """To the nearest bfloat16, ties to even; gives float32 holding it."""
    x = np.asarray(x)
    single = _to_odd_float32(x) if x.dtype == np.float64 else x
    bits = single.view(np.uint32)
    even = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded = ((bits + even) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(single), single, rounded)


def compute_dtype(dtype: DType) -> np.dtype[Any]:
    """The numpy dtype in which as-typed values are held and computed: float32 for narrow floats."""
    return np.dtype(np.float32) if dtype.is_float and dtype.bits < 32 else dtype.numpy()


def round_to(x: Array, dtype: DType) -> Array:
    """``x`` rounded to ``dtype``, held in ``compute_dtype(dtype)``.

    Floats round to nearest even, with the overflow behaviour of ml_dtypes for fp8 (e4m3 has no
    infinity and gives NaN). Integers wrap; floats become integers by truncation.
    """
    x = np.asarray(x)
    if dtype is DType.BF16:
        return round_bf16(x if x.dtype.kind == "f" else x.astype(np.float64))
    held = compute_dtype(dtype)
    if dtype.is_float and dtype.bits < 32:
        if dtype.bits == 8 and x.dtype == np.float64:
            x = _to_odd_float32(x)  # ml_dtypes goes through float32, and would round twice
        return x.astype(dtype.numpy()).astype(held)
    return x if x.dtype == held else x.astype(held)


def identity(kind: str, dtype: np.dtype[Any]) -> Any:
    """The neutral value of ``add``/``sum``, ``prod``, ``min``, ``max``, ``any``, ``all``."""
    if kind in ("add", "sum", "any"):
        return dtype.type(0)
    if kind in ("prod", "all"):
        return dtype.type(1)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return dtype.type(info.max if kind == "min" else info.min)
    if dtype.kind == "b":
        return np.bool_(kind == "min")
    return dtype.type(np.inf if kind == "min" else -np.inf)
