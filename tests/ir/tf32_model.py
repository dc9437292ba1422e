"""TF32 as fractions have it, and float32 numbers that are hard to round to it."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

Array = np.ndarray[Any, Any]

ROUNDED = ("tf32", "tf32_even")
"""The precisions of ``dot`` that round its operands to TF32, ties away from zero and to even."""


def nearest(x: Array, precision: str) -> Array:
    """The nearest TF32 values of float32 numbers, held in float32."""
    return np.array([_nearest(float(v), precision) for v in x], np.float32)


def _nearest(v: float, precision: str) -> float:
    if not math.isfinite(v):
        return v
    # 10 bits after the leading one; below the least normal number, 2**-126, steps as there.
    step = Fraction(2) ** (max(math.frexp(v)[1] - 1, -126) - 10)
    whole, rest = divmod(abs(Fraction(v)) / step, 1)
    up = rest > Fraction(1, 2) or (
        rest == Fraction(1, 2) and (precision == "tf32" or whole % 2 == 1)
    )
    size = (whole + up) * step
    return math.copysign(math.inf if size >= Fraction(2) ** 128 else float(size), v)


def _assembled(sign: int, exponent: int, kept: int, dropped: int) -> int:
    return sign << 31 | exponent << 23 | kept << 13 | dropped


_BITS = st.one_of(
    st.integers(0, 2**32 - 1),
    st.builds(
        _assembled,
        st.integers(0, 1),
        st.sampled_from((0, 1, 2, 127, 253, 254, 255)) | st.integers(0, 255),
        st.sampled_from((0, 1, 2, 1022, 1023)) | st.integers(0, 1023),
        st.sampled_from((0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF)),
    ),
)


def numbers(count: int) -> st.SearchStrategy[Array]:
    """That many float32 numbers: ties, signs, subnormals, infinities and NaN among them."""
    some = st.lists(_BITS, min_size=count, max_size=count)
    return some.map(lambda bits: np.array(bits, np.uint32).view(np.float32))


ROWS = 64
KERNEL = """
kernel @k(%x: f32[64, 16], %w: f32[16, 64]) -> (%y: f32[64, 64])
{{
  parallel %i = 0 to 64 tile 16, %j = 0 to 64 tile 16 {{
    %s = for %l = 0 to 16 tile 16 carry (%a = full 0.0 : f32[16, 16]) {{
      %p = load %x[%i, %l] : f32[16, 16]
      %q = load %w[%l, %j] : f32[16, 16]
      yield dot %p, %q, %a precision {precision}
    }}
    store %s, %y[%i, %j]
  }}
}}
"""
"""A product that shows how its operands are rounded, given ``operands``."""


def operands(left: Array, right: Array) -> dict[str, Array]:
    """One column times one row: each output is one product."""
    x, w = np.zeros((ROWS, 16), np.float32), np.zeros((16, ROWS), np.float32)
    x[:, 0], w[0] = left, right
    return {"x": x, "w": w}


def check_product(got: Array, numbers_: Array, precision: str, left: bool) -> None:
    """Assert that a product of numbers and ones is the numbers, rounded."""
    rounded = nearest(numbers_, precision)
    want = np.tile(rounded[:, None] if left else rounded, (1, ROWS) if left else (ROWS, 1))
    np.testing.assert_array_equal(got, want)
