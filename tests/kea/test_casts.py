"""Conversions between element types, bit for bit against numpy and ml_dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ke_ir.types import DTYPES, DType
from targets.kea.target import KeaTarget
from tests.kea.kea_support import program_of

SMALL = ("f16", "bf16", "f8e4m3", "f8e5m2")


def convert(x: np.ndarray[Any, Any], source: DType, to: DType) -> np.ndarray[Any, Any]:
    text = f"""
kernel @k(%x: {source}[N]) -> (%y: {to}[N])
dims N in 1..1000000 = 8
{{ parallel %n = 0 to N tile 8192 {{
 %v = load %x[%n] : {source}[8192]
 store cast %v : {to}, %y[%n]
}} }}
"""
    module, program = program_of(text)
    dims = program.sizes({"N": len(x)})
    return KeaTarget().run(module, program, {}, dims, {"x": x}).outputs["y"]


def same_bits(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any]) -> None:
    with np.errstate(invalid="ignore"):  # signalling NaNs of the narrow type
        nan = np.isnan(want.astype(np.float64))
        np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), nan)
    as_bits = np.dtype(f"u{got.dtype.itemsize}")
    np.testing.assert_array_equal(got.view(as_bits)[~nan], want.view(as_bits)[~nan])


def interesting(dtype: DType) -> np.ndarray[Any, Any]:
    """float32 values around every value of ``dtype`` of 8 or 16 bits: it, halves, neighbours."""
    every = np.arange(1 << dtype.bits, dtype=f"u{dtype.bytes}").view(dtype.numpy())
    values = every.astype(np.float32)
    finite = np.sort(np.unique(values[np.isfinite(values)]))
    middle = ((finite[1:].astype(np.float64) + finite[:-1]) / 2).astype(np.float32)
    near = [np.nextafter(middle, np.float32(s)) for s in (-np.inf, np.inf)]
    huge = np.array([3e38, -3e38, np.inf, -np.inf, np.nan, 449, 464, 465, 1e-45], np.float32)
    return np.concatenate([values, middle, *near, huge])


@pytest.mark.parametrize("name", SMALL)
def test_from_f32_rounds_to_nearest_even(name: str) -> None:
    to = DTYPES[name]
    x = interesting(to)
    with np.errstate(over="ignore", invalid="ignore"):
        want = x.astype(to.numpy())
    same_bits(convert(x, DType.F32, to), want)


@pytest.mark.parametrize("name", SMALL)
def test_to_f32_is_exact(name: str) -> None:
    dtype = DTYPES[name]
    x = np.arange(1 << dtype.bits, dtype=f"u{dtype.bytes}").view(dtype.numpy())
    with np.errstate(invalid="ignore"):
        want = x.astype(np.float32)
    same_bits(convert(x, dtype, DType.F32), want)


def test_f64_is_rounded_once() -> None:
    # Just above a tie of bf16: rounding through f32 would make it a tie, and round down.
    x = np.array([1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-8, 1 + 3 * 2.0**-8])
    got = convert(x, DType.F64, DType.BF16).astype(np.float64)
    np.testing.assert_array_equal(got, [1 + 2.0**-7, 1.0, 1 + 2.0**-6])


@pytest.mark.parametrize("to", ["i64", "i32", "i16", "i8", "u8"])
def test_integers_wrap_and_floats_truncate(to: str) -> None:
    dtype = DTYPES[to]
    whole = np.array([0, 1, -1, 127, 128, 255, 256, -129, 70000, -(2**31), 2**31 - 1], np.int32)
    np.testing.assert_array_equal(convert(whole, DType.I32, dtype), whole.astype(dtype.numpy()))
    real = np.array([0.0, 0.9, -0.9, 1.5, 99.99, -1.0 if to != "u8" else 1.0], np.float32)
    want = np.trunc(real).astype(dtype.numpy())
    np.testing.assert_array_equal(convert(real, DType.F32, dtype), want)


def test_anything_but_zero_is_true() -> None:
    x = np.array([0.0, -0.0, 0.25, np.nan, -3.0], np.float32)
    np.testing.assert_array_equal(convert(x, DType.F32, DType.I1), [False, False, True, True, True])
