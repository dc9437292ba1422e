"""Prefixes and suffixes: evaluated in one pass, and equal to what their definition says."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from ke_ir import evaluate_reduce, evaluate_scan
from ke_ir.evaluate import EvaluationError, evaluate_op, evaluate_with_error
from ke_ir.ir import OpDef
from ke_ir.parser import parse
from ke_ir.rounding import Rounding
from ke_ir.verify import check

Array = np.ndarray[Any, Any]
HEAD = "op @f(x: f64[B, N]) -> (y: f64[B, N]) dims B = 3, N = 17 "


def op(text: str) -> OpDef:
    (o,) = check(parse(text)).ops.values()
    return o


def value(text: str, **inputs: Any) -> Array:
    (out,) = evaluate_op(op(text), None, inputs).values()
    return out


def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluate every reduction from its definition."""
    monkeypatch.setattr(evaluate_reduce, "prefixes", lambda *_: None)


def whole(*shape: int) -> Array:
    """Floats whose sums and products of a few are exact, so that any order gives the same."""
    return np.random.default_rng(5).integers(-2, 3, shape).astype(np.float64)


RANGES = {
    "inclusive": "j in 0 to i + 1", "exclusive": "j in 0 to i", "beyond": "j in 2 to i + 1",
    "suffix": "j in i to N", "strict_suffix": "j in i + 1 to N", "cut_suffix": "j in i to N - 4",
    "strided": "j in 0 to (i * 2) // 3 + 1", "falling": "j in 0 to N - i",
    "lagging": "j in 0 to i - 3",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("name", RANGES)
def test_equal_to_the_definition(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    f = op(HEAD + f"{{ y[b, i] = {kind}[{RANGES[name]}](x[b, j] * (j % 3) + 1) }}")
    x = whole(3, 17)
    fast, bound = evaluate_with_error(f, None, {"x": x}, Rounding())["y"]
    plain(monkeypatch)
    slow, other = evaluate_with_error(f, None, {"x": x}, Rounding())["y"]
    np.testing.assert_array_equal(fast, slow)
    np.testing.assert_allclose(bound, other, rtol=1e-9)
    assert kind not in ("sum", "prod") or np.ptp(fast) > 0


@pytest.mark.parametrize(
    "text",
    [
        "op @f(x: i32[B, N], n: i32[M]) -> (y: i64[M, B]) dims B = 3, N = 17, M = 5 "
        "{ y[m, b] = sum[j in 0 to n[m]](x[b, j] * j) }",
        "op @f(x: i32[B, N], n: i32[M]) -> (y: i64[M, B]) dims B = 3, N = 17, M = 5 "
        "{ y[m, b] = min[j in n[m] to N](x[b, j]) + max[k in 0 to n[m]](x[b, k]) }",
        "op @f(x: i32[B, N], n: i32[M]) -> (y: i64[M, M, B]) dims B = 3, N = 17, M = 5 "
        "{ y[m, k, b] = sum[j in 0 to min(n[m], n[k] + 2)](x[b, j]) }",
        "op @f(x: i32[B, N], n: i32[M]) -> (y: i64[M]) dims B = 3, N = 17, M = 5 "
        "{ y[m] = sum[j in 0 to n[m]](x[0, 0] + 1) }",
        "op @f(x: i32[B, N], n: i32[M]) -> (y: i64[M]) dims B = 3, N = 17, M = 5 "
        "{ y[m] = sum[j in 0 to n[m]](sum[b](x[b, j] * select(n[0] > 2, 1, 2))) }",
    ],
)
@pytest.mark.parametrize("chunk", [1 << 24, 7])
def test_ends_from_data(text: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_scan, "CHUNK", chunk)
    x, n = whole(3, 17).astype(np.int32), np.array([0, 17, 3, 9, 3], np.int32)
    fast = value(text, x=x, n=n)
    plain(monkeypatch)
    np.testing.assert_array_equal(fast, value(text, x=x, n=n))


def test_other_places_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    f = op("""op @f(x: f32[A, N, C]) -> (y: f32[N, C, A]) dims A = 3, N = 11, C = 4 {
      y[i, c, a] = max[j in i to N](x[a, j, c]) - sum[k in 0 to i + 1](x[a, k, c]) }""")
    x = whole(3, 11, 4)
    want = np.flip(np.maximum.accumulate(np.flip(x, 1), 1), 1) - np.cumsum(x, 1)
    for chunk in (1 << 24, 20):
        monkeypatch.setattr(evaluate_scan, "CHUNK", chunk)
        (got,) = evaluate_op(f, None, {"x": x}).values()
        np.testing.assert_array_equal(got, want.transpose(1, 2, 0))


def test_a_later_nan_stays_out_of_earlier_prefixes() -> None:
    x = np.array([[1.0, np.nan, 2.0, np.inf]])
    text = "op @f(x: f64[B, N]) -> (y: f64[B, N]) dims B = 1, N = 4 "
    got = value(text + "{ y[b, i] = sum[j in 0 to i](x[b, j]) }", x=x)
    np.testing.assert_array_equal(got, [[0, 1, np.nan, np.nan]])
    got = value(text + "{ y[b, i] = max[j in i to N](x[b, j]) }", x=x[:, 2:].repeat(2, 1))
    np.testing.assert_array_equal(got, [[np.inf] * 4])


def test_a_body_that_uses_the_moving_index_is_no_scan() -> None:
    x = whole(3, 17)
    got = value(HEAD + "{ y[b, i] = sum[j in 0 to i + 1](x[b, j] * (i - j)) }", x=x)
    want = [[sum(x[b, j] * (i - j) for j in range(i + 1)) for i in range(17)] for b in range(3)]
    np.testing.assert_array_equal(got, want)


def test_an_element_outside_is_still_an_error() -> None:
    with pytest.raises(EvaluationError, match="outside 0 to 16"):
        value(HEAD + "{ y[b, i] = sum[j in 0 to i + 3](x[b, j]) }", x=whole(3, 17))


def test_takes_time_in_proportion_to_its_length() -> None:
    n = 1 << 20
    text = f"op @f(x: f32[N]) -> (y: f32[N]) dims N = {n} {{ y[i] = sum[j in 0 to i + 1](x[j]) }}"
    x = np.ones(n)
    began = time.perf_counter()
    np.testing.assert_array_equal(value(text, x=x), np.arange(1, n + 1))
    assert time.perf_counter() - began < 5  # n^2 would be 10^12 steps
