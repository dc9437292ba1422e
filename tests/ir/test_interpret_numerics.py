"""The arithmetic that the interpreter and the evaluation stand on."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given

from ke_ir import numerics
from ke_ir.types import DType
from tests.ir.tf32_model import ROUNDED, nearest, numbers

RNG = np.random.default_rng(0)


def test_erf_is_accurate_to_float64() -> None:
    x = np.concatenate([np.linspace(-7, 7, 40_001), np.geomspace(1e-300, 1, 1000), [0.0, -0.0]])
    want = np.array([math.erf(v) for v in x])
    got = numerics.erf(x)
    assert np.all(np.abs(got - want) <= 4.5e-16 * np.abs(want))


def test_erf_at_the_ends_of_its_intervals_and_special_values() -> None:
    ends = [0.84375, 1.25, 1 / 0.35, 6.0]
    x = np.array([*ends, *np.nextafter(ends, 9), *(-v for v in ends)])
    want = [math.erf(v) for v in x]
    np.testing.assert_allclose(numerics.erf(x), want, rtol=4.5e-16)
    got = numerics.erf(np.array([[np.inf, -np.inf, np.nan]]))
    assert got.shape == (1, 3) and got[0, 0] == 1 and got[0, 1] == -1 and np.isnan(got[0, 2])
    assert numerics.erf(np.float32([0.5])).dtype == np.float32


def _samples() -> np.ndarray:
    bits = RNG.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    near = RNG.standard_normal(100_000).astype(np.float32)
    ties = np.arange(2**16, dtype=np.uint32) << 16 | np.uint32(0x8000)
    special = np.float32(
        [0, -0.0, np.inf, -np.inf, np.nan, 448, 449, 464, 480, 57344, 61440, 65504]
    )
    return np.concatenate([bits, near, near * 1e-6, ties.view(np.float32), special])


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16, DType.F8E4M3, DType.F8E5M2])
def test_rounding_is_bit_exact_against_ml_dtypes(dtype: DType) -> None:
    x = _samples()
    with np.errstate(all="ignore"):
        got = numerics.round_to(x, dtype)
        want = x.astype(dtype.numpy()).astype(np.float32)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want)
    finite = np.isfinite(want)
    assert np.array_equal(np.signbit(got[finite]), np.signbit(want[finite]))


def test_float64_rounds_to_bfloat16_once() -> None:
    # Through float32 this would be a tie and go down to 1.
    assert numerics.round_bf16(np.array([1 + 2.0**-8 + 2.0**-40]))[0] == 1 + 2.0**-7
    assert numerics.round_bf16(np.array([1 + 2.0**-8 - 2.0**-40]))[0] == 1.0
    x = RNG.standard_normal(10_000)
    got = numerics.round_bf16(x).astype(np.float64)
    candidates = np.stack([got * (1 + s) for s in (-(2.0**-8), 0, 2.0**-7)])
    nearest = candidates.astype(ml_dtypes.bfloat16).astype(np.float64)
    assert np.all(np.abs(got - x) <= np.abs(nearest - x).min(0))


@pytest.mark.parametrize(("dtype", "low", "high"), [
    (DType.F8E5M2, 1.0, 1.25), (DType.F8E4M3, 1.0, 1.125), (DType.F16, 1.0, 1 + 2.0**-10),
])  # fmt: skip
def test_float64_rounds_to_narrow_floats_once(dtype: DType, low: float, high: float) -> None:
    middle = (low + high) / 2
    x = np.array([middle - 2.0**-40, middle, middle + 2.0**-40])
    assert numerics.round_to(x, dtype).tolist() == [low, low, high]


def test_tf32_keeps_ten_bits_and_rounds_ties_away() -> None:
    x = np.float32([1 + 2.0**-11, -(1 + 2.0**-11), 1 + 2.0**-12, np.inf, np.nan, 3.0])
    got = numerics.round_tf32(x)
    assert got[0] == 1 + 2.0**-10 and got[1] == -(1 + 2.0**-10) and got[2] == 1
    assert np.isinf(got[3]) and np.isnan(got[4]) and got[5] == 3
    y = RNG.standard_normal(10_000).astype(np.float32)
    assert np.all(np.abs(numerics.round_tf32(y) - y) <= 2.0**-11 * np.abs(y))
    assert np.all(numerics.round_tf32(y).view(np.uint32) & 0x1FFF == 0)


@pytest.mark.parametrize("precision", ROUNDED)
@given(x=numbers(64))
def test_tf32_is_the_nearest_value(precision: str, x: Any) -> None:
    round_ = {"tf32": numerics.round_tf32, "tf32_even": numerics.round_tf32_even}[precision]
    want = nearest(x, precision)
    np.testing.assert_array_equal(round_(x), want)
    np.testing.assert_array_equal(np.signbit(round_(x)), np.signbit(x))
    with np.errstate(invalid="ignore"):  # signalling NaN
        got = numerics.dot(x[:, None], np.ones((1, 1), np.float32), None, precision)[:, 0]
    np.testing.assert_array_equal(got, want)


def test_dot_precisions_are_ordered_by_their_error() -> None:
    a, b = RNG.standard_normal((2, 64, 512)).astype(np.float32)
    want = a.astype(np.float64) @ b.astype(np.float64).T
    errors = {
        p: np.abs(numerics.dot(a, b.T, None, p) - want).max()
        for p in ("tf32", "bf16x3", "tf32x3", "bf16x6", "ieee")
    }
    assert errors["tf32"] > 1e-3 > errors["bf16x3"] > errors["tf32x3"]
    assert errors["tf32x3"] < 1e-4 and errors["bf16x6"] < 1e-4 and errors["ieee"] < 1e-4


def test_dot_accumulates_and_batches() -> None:
    a, b = RNG.standard_normal((3, 4, 5)), RNG.standard_normal((3, 5, 6))
    c = RNG.standard_normal((3, 4, 6))
    np.testing.assert_allclose(numerics.dot(a, b, c), a @ b + c)


def test_integer_dot_is_exact_and_wraps() -> None:
    a = RNG.integers(-128, 128, (7, 300)).astype(np.int8)
    b = RNG.integers(-128, 128, (300, 9)).astype(np.int8)
    got = numerics.dot(a, b, None)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, a.astype(np.int64) @ b.astype(np.int64))
    near_end = np.full((1, 1), 2**31 - 1, np.int32)
    assert numerics.dot(np.int8([[1]]), np.int8([[1]]), near_end)[0, 0] == -(2**31)


@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("reverse", [False, True])
def test_scan(kind: str, reverse: bool) -> None:
    x = RNG.standard_normal((3, 8))
    got = numerics.scan(kind, x, 1, reverse)
    for i in range(8):
        part = x[:, i:] if reverse else x[:, : i + 1]
        np.testing.assert_allclose(got[:, i], numerics.REDUCE_FUNCTIONS[kind](part, 1))


def test_reductions_keep_the_dtype() -> None:
    x = np.full((2, 300), 127, np.int8)
    assert numerics.REDUCE_FUNCTIONS["sum"](x, 1).dtype == np.int8
    assert numerics.REDUCE_FUNCTIONS["argmax"](x, 1).dtype == np.int32
    assert numerics.REDUCE_FUNCTIONS["argmax"](np.array([[1, 3, 3]]), 1)[0] == 1
    assert np.isnan(numerics.REDUCE_FUNCTIONS["max"](np.array([[1.0, np.nan]]), 1))[0]


def test_integer_functions_follow_python() -> None:
    a, b = np.int32([7, -7, 7, -7]), np.int32([2, 2, -2, -2])
    assert numerics.BINARY_FUNCTIONS["floordiv"](a, b).tolist() == [3, -4, -4, 3]
    assert numerics.BINARY_FUNCTIONS["mod"](a, b).tolist() == [1, 1, -1, -1]
    assert numerics.UNARY_FUNCTIONS["round"](np.array([0.5, 1.5, 2.5])).tolist() == [0, 2, 2]
    assert numerics.UNARY_FUNCTIONS["not"](np.array([True, False])).tolist() == [False, True]


def test_identities() -> None:
    assert numerics.identity("max", np.dtype(np.float64)) == -np.inf
    assert numerics.identity("min", np.dtype(np.int32)) == 2**31 - 1
    assert numerics.identity("add", np.dtype(np.float32)) == 0
