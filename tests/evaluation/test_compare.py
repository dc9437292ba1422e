"""Comparison is elementwise, bounded, and exact where it must be."""

from __future__ import annotations

import numpy as np
import pytest

from ke_ir.ir import Signature
from ke_ir.parser import parse
from ke_ir.types import DType
from search.evaluation.compare import BENCHMARK_TOLERANCE, capped, compare


def signature(dtype: str) -> Signature:
    text = f"op @f(x: {dtype}[4]) -> (y: {dtype}[4]) {{ y[i] = x[i] }}"
    return parse(text).ops["f"]


def ratio(got: object, want: object, allowed: object = 0.5, dtype: str = "f32") -> float:
    x, y = np.asarray(got), np.asarray(want)
    bound = np.broadcast_to(np.asarray(allowed, float), y.shape)
    return compare(signature(dtype), {"y": x}, {"y": y}, {"y": bound}).worst_ratio


def test_one_bad_element_among_good_ones_is_found() -> None:
    want = np.zeros(1000)
    got = want.copy()
    got[737] = 1.0
    found = compare(signature("f32"), {"y": got}, {"y": want}, {"y": np.full(1000, 0.5)})
    assert not found.passed and "y[737]" in found.where and found.worst_ratio == 2.0


def test_bounds_are_of_each_element() -> None:
    assert ratio([1.0, 0.1], [0.0, 0.0], [1.0, 0.01]) == pytest.approx(10)


def test_nan_and_infinity_must_be_matched() -> None:
    nan, inf = float("nan"), float("inf")
    assert ratio([nan, inf, -inf], [nan, inf, -inf]) == 0
    assert ratio([nan], [1.0], 1e9) == inf
    assert ratio([1.0], [nan], 1e9) == inf
    assert ratio([inf], [-inf], 1e9) == inf
    assert ratio([inf], [1.0], inf) == inf


def test_integers_must_be_equal() -> None:
    assert ratio([1, 2], [1, 2], 0.0, "i32") == 0
    assert ratio([1, 3], [1, 2], 0.0, "i32") == float("inf")


def test_missing_and_misshapen_outputs() -> None:
    s = signature("f32")
    want = {"y": np.zeros(4)}
    assert "missing" in compare(s, {}, want, want).where
    assert "shape" in compare(s, {"y": np.zeros(3)}, want, want).where


@pytest.mark.parametrize("dtype", [d for d in DType if d.is_float])
def test_no_bound_is_looser_than_the_benchmarks(dtype: DType) -> None:
    want = np.array([0.0, 1.0, -100.0])
    tolerance = BENCHMARK_TOLERANCE[dtype]
    got = capped(np.array([np.inf, np.nan, 1e9]), want, dtype)
    assert got == pytest.approx(tolerance + tolerance * np.abs(want))
    assert (capped(np.full(3, 1e-12), want, dtype) == 1e-12).all()
