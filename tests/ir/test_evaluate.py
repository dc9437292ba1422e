"""The value of ops, against torch in float64."""

from __future__ import annotations

import math
import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ke_ir import evaluate, evaluate_reduce
from ke_ir.evaluate import EvaluationError, evaluate_op
from ke_ir.ir import OpDef
from ke_ir.parser import parse
from ke_ir.verify import check

RNG = np.random.default_rng(2)
Array = np.ndarray[Any, Any]


def op(text: str) -> OpDef:
    (o,) = check(parse(text)).ops.values()
    return o


def value(text: str, **inputs: Any) -> Array:
    """The only output of an op."""
    (out,) = evaluate_op(op(text), None, inputs).values()
    return out


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape)


def close(got: Array, want: torch.Tensor | Array) -> None:
    want = want.numpy() if isinstance(want, torch.Tensor) else want
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


def test_softmax() -> None:
    x = normal(7, 33) * 30
    got = value(
        """op @softmax(x: f16[B, D]) -> (y: f16[B, D]) dims B = 7, D = 33 {
          m[b] = max[d](x[b, d])
          e[b, d] = exp(x[b, d] - m[b])
          y[b, d] = e[b, d] / sum[k](e[b, k])
        }""",
        x=x,
    )
    close(got, torch.softmax(torch.from_numpy(x), 1))


def test_layer_norm() -> None:
    x, w, b = normal(6, 50) + 3, normal(50), normal(50)
    got = value(
        """op @ln(x: bf16[B, D], w: bf16[D], c: bf16[D]) -> (y: bf16[B, D]) dims B = 6, D = 50 {
          m[b] = sum[d](x[b, d]) / D
          v[b] = sum[d]((x[b, d] - m[b]) * (x[b, d] - m[b])) / D
          y[b, d] = (x[b, d] - m[b]) * rsqrt(v[b] + 1e-5) * w[d] + c[d]
        }""",
        x=x, w=w, c=b,
    )  # fmt: skip
    close(
        got,
        F.layer_norm(torch.from_numpy(x), (50,), torch.from_numpy(w), torch.from_numpy(b)),
    )


def test_matmul_bias_gelu() -> None:
    a, b, c = normal(20, 30), normal(30, 40), normal(40)
    got = value(
        """op @mm(a: f32[M, K], b: f32[K, N], c: f32[N]) -> (y: f32[M, N])
        dims M = 20, K = 30, N = 40 {
          h[m, n] = sum[k](a[m, k] * b[k, n]) + c[n]
          y[m, n] = 0.5 * h[m, n] * (1 + erf(h[m, n] * 0.7071067811865476))
        }""",
        a=a, b=b, c=c,
    )  # fmt: skip
    close(got, F.gelu(torch.from_numpy(a @ b + c)))


@pytest.mark.parametrize("chunk", [1 << 24, 5000])
def test_conv2d(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_reduce, "CHUNK", chunk)
    x, w = normal(3, 5, 12, 14), normal(6, 5, 3, 3)
    got = value(
        """op @conv(x: f16[N, C, H, W], w: f16[O, C, 3, 3]) -> (y: f16[N, O, H, W])
        dims N = 3, C = 5, O = 6, H = 12, W = 14 {
          y[n, o, i, j] = sum[c, p, q](x[n, c, i + p - 1, j + q - 1 else 0] * w[o, c, p, q])
        }""",
        x=x, w=w,
    )  # fmt: skip
    close(got, F.conv2d(torch.from_numpy(x), torch.from_numpy(w), padding=1))


def test_strided_dilated_conv_without_padding() -> None:
    x, w = normal(2, 4, 30), normal(3, 4, 5)
    got = value(
        """op @conv(x: f32[N, C, L], w: f32[O, C, P]) -> (y: f32[N, O, Q])
        dims N = 2, C = 4, O = 3, L = 30, P = 5, Q = (L - 2 * (P - 1) - 1) // 3 + 1 {
          y[n, o, l] = sum[c, p](x[n, c, 3 * l + 2 * p] * w[o, c, p])
        }""",
        x=x, w=w,
    )  # fmt: skip
    close(got, F.conv1d(torch.from_numpy(x), torch.from_numpy(w), stride=3, dilation=2))


def test_max_pool_with_fill() -> None:
    x = normal(2, 3, 9)
    got = value(
        """op @pool(x: f32[N, C, L]) -> (y: f32[N, C, Q]) dims N = 2, C = 3, L = 9, Q = 5 {
          y[n, c, l] = max[p in 0 to 3](x[n, c, 2 * l + p - 1 else -inf])
        }""",
        x=x,
    )
    close(got, F.max_pool1d(torch.from_numpy(x), 3, 2, 1))


@pytest.mark.parametrize("chunk", [1 << 24, 300])
def test_causal_attention(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_reduce, "CHUNK", chunk)
    q, k, v = normal(3, 2, 3, 21, 8)
    got = value(
        """op @attn(q: f16[B, H, N, D], k: f16[B, H, N, D], v: f16[B, H, N, D])
          -> (o: f16[B, H, N, D]) dims B = 2, H = 3, N = 21, D = 8 {
          s[b, h, i, j] = select(j <= i, sum[d](q[b, h, i, d] * k[b, h, j, d]) / sqrt(D), -inf)
          m[b, h, i] = max[j](s[b, h, i, j])
          p[b, h, i, j] = exp(s[b, h, i, j] - m[b, h, i])
          o[b, h, i, d] = sum[j](p[b, h, i, j] * v[b, h, j, d]) / sum[l](p[b, h, i, l])
        }""",
        q=q, k=k, v=v,
    )  # fmt: skip
    t = [torch.from_numpy(a) for a in (q, k, v)]
    close(got, F.scaled_dot_product_attention(*t, is_causal=True))


def test_gather() -> None:
    t, ix = normal(11, 6), RNG.integers(0, 11, (4, 5))
    text = """op @g(t: f32[V, D], i: i64[A, B]) -> (y: f32[A, B, D])
    dims V = 11, D = 6, A = 4, B = 5 {
      y[a, b, d] = t[i[a, b], d]
    }"""
    close(value(text, t=t, i=ix), t[ix])


def test_gather_shares_an_index_and_has_a_fill() -> None:
    x, ix = normal(5, 9), RNG.integers(-2, 12, 5)
    got = value(
        """op @g(x: f32[N, C], t: i32[N]) -> (y: f32[N]) dims N = 5, C = 9 {
          y[n] = x[n, t[n] else -1]
        }""",
        x=x, t=ix,
    )  # fmt: skip
    close(got, np.array([x[n, i] if 0 <= i < 9 else -1.0 for n, i in enumerate(ix)]))


def test_fill_that_differs_by_position() -> None:
    x = normal(6)
    got = value("op @f(x: f32[N]) -> (y: f32[N]) dims N = 6 { y[n] = x[n + 2 else n * 10] }", x=x)
    close(got, np.r_[x[2:], 40, 50])


JAGGED = """op @sum(t: f32[V, D], ix: i32[T], off: i32[S]) -> (y: f32[B, D])
dims V = 50, D = 4, T = 60, B = 7, S = B + 1 {
  y[b, d] = sum[l in off[b] to off[b + 1]](t[ix[l], d])
}"""


@pytest.mark.parametrize("chunk", [1 << 24, 40])
def test_jagged_rows(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_reduce, "CHUNK", chunk)
    t, ix = normal(50, 4), RNG.integers(0, 50, 60)
    off = np.array([0, 0, 2, 20, 20, 45, 59, 60])
    got = value(JAGGED, t=t, ix=ix, off=off)
    close(got, np.array([t[ix[a:b]].sum(0) for a, b in pairwise(off)]))


def test_jagged_product_and_extremes() -> None:
    x, w = normal(60), normal(60)
    off = np.array([0, 3, 20, 21, 60])
    rows = [slice(a, b) for a, b in pairwise(off)]
    text = """op @f(x: f32[T], w: f32[T], off: i32[S]) -> (s: f32[B], m: f32[B], a: i32[B])
    dims T = 60, B = 4, S = 5 {
      s[b] = sum[l in off[b] to off[b + 1]](x[l] * w[l] * (l - off[b]))
      m[b] = max[l in off[b] to off[b + 1]](x[l])
      a[b] = argmax[l in off[b] to off[b + 1]](x[l])
    }"""
    got = evaluate_op(op(text), None, {"x": x, "w": w, "off": off})
    close(got["s"], np.array([(x[r] * w[r] * np.arange(r.stop - r.start)).sum() for r in rows]))
    close(got["m"], np.array([x[r].max() for r in rows]))
    close(got["a"], np.array([x[r].argmax() + r.start for r in rows]))


def test_jagged_rows_do_not_multiply_what_lies_past_their_end() -> None:
    x = np.array([1.0, 2.0, 0.0, 3.0])
    text = """op @f(x: f32[T], off: i32[S]) -> (s: f32[B]) dims T = 4, B = 2, S = 3 {
      s[b] = sum[l in off[b] to off[b + 1]](log(x[l else 0]) * x[l])
    }"""
    got = value(text, x=x, off=np.array([0, 2, 2]))
    close(got, np.array([2 * math.log(2), 0.0]))


def test_prefix_sum_by_a_range_that_depends_on_an_index() -> None:
    x = normal(3, 40)
    got = value(
        """op @scan(x: f32[B, N]) -> (y: f32[B, N]) dims B = 3, N = 40 {
          y[b, i] = sum[j in 0 to i + 1](x[b, j])
        }""",
        x=x,
    )
    close(got, x.cumsum(1))


def test_argmax_takes_the_first_and_argmin() -> None:
    x = RNG.integers(0, 4, (9, 30)).astype(float)
    text = """op @a(x: f32[B, N]) -> (p: i32[B], q: i64[B]) dims B = 9, N = 30 {
      p[b] = argmax[n](x[b, n])
      q[b] = argmin[n](x[b, n])
    }"""
    got = evaluate_op(op(text), None, {"x": x})
    assert got["p"].dtype == np.int64
    close(got["p"], x.argmax(1))
    close(got["q"], x.argmin(1))


def test_conditions_any_and_all() -> None:
    x, y = normal(8, 20), normal(8, 20)
    text = """op @c(x: f32[B, N], y: f32[B, N]) -> (a: i1[B], e: i1[B], z: f32[B, N])
    dims B = 8, N = 20 {
      a[b] = all[n](x[b, n] > -2 or y[b, n] > 0)
      e[b] = any[n](not (x[b, n] < 1.5) and y[b, n] >= 0)
      z[b, n] = select(x[b, n] > 0 and n % 2 == 0, x[b, n], min(y[b, n], 0.5))
    }"""
    got = evaluate_op(op(text), None, {"x": x, "y": y})
    assert got["a"].dtype == bool
    close(got["a"], ((x > -2) | (y > 0)).all(1))
    close(got["e"], ((x >= 1.5) & (y >= 0)).any(1))
    close(got["z"], np.where((x > 0) & (np.arange(20) % 2 == 0), x, np.minimum(y, 0.5)))


def test_quasi_affine_subscripts() -> None:
    x = normal(4, 6)
    text = """op @q(x: f32[A, B]) -> (y: f32[N], z: f32[B, A]) dims A = 4, B = 6, N = 24 {
      y[n] = x[n // B, n % B]
      z[b, a] = x[A - 1 - a, B - 1 - b]
    }"""
    got = evaluate_op(op(text), None, {"x": x})
    close(got["y"], x.ravel())
    close(got["z"], x[::-1, ::-1].T)


def test_diagonal_and_trace() -> None:
    x = normal(5, 5)
    text = """op @d(x: f32[N, N]) -> (y: f32[N], t: f32[]) dims N = 5 {
      y[n] = x[n, n]
      t[] = sum[n](x[n, n])
    }"""
    got = evaluate_op(op(text), None, {"x": x})
    close(got["y"], np.diag(x))
    close(got["t"], np.trace(x))


def test_integers_are_exact() -> None:
    big = np.array([2**40 + 1, 2**41 + 3, -(2**45) - 7])
    text = """op @i(x: i64[N]) -> (p: i64[N, N], s: i64[], m: i64[N], w: i8[N]) dims N = 3 {
      p[i, j] = sum[k](x[i] * x[k] * (j - k))
      s[] = sum[i](x[i] * x[i] // 1024)
      m[i] = -x[i] % 7
      w[i] = x[i]
    }"""
    with np.errstate(over="ignore"):
        got = evaluate_op(op(text), None, {"x": big})
        k = np.arange(3)
        close(got["p"], (big[:, None, None] * big * (k[:, None] - k)).sum(2))
    close(got["m"], -big % 7)
    close(got["w"], big.astype(np.int8).astype(np.int64))
    ints = RNG.integers(-(2**20), 2**20, (30, 40))
    text = """op @m(a: i32[M, K], b: i32[M, K]) -> (c: i64[M, M]) dims M = 30, K = 40 {
      c[i, j] = sum[k](a[i, k] * b[j, k])
    }"""
    close(value(text, a=ints, b=ints), ints @ ints.T)


def test_reductions_over_an_index_that_the_body_lacks() -> None:
    x = normal(5)
    text = """op @r(x: f32[N]) -> (s: f32[N], p: f32[N]) dims N = 5 {
      s[n] = sum[k in 0 to 3](x[n] * x[n])
      p[n] = prod[k in 0 to 3](x[n])
    }"""
    got = evaluate_op(op(text), None, {"x": x})
    close(got["s"], 3 * x * x)
    close(got["p"], x**3)


def test_empty_ranges() -> None:
    text = """op @e(x: f32[N]) -> (s: f32[], m: f32[]) dims N in 0..9 = 0 {
      s[] = sum[n](x[n] * x[n])
      m[] = max[n](x[n])
    }"""
    o = parse(text).ops["e"]
    got = evaluate_op(o, None, {"x": np.zeros(0)})
    assert got["s"] == 0 and got["m"] == -np.inf


def test_pairwise_distance_in_chunks_of_bounded_memory() -> None:
    a, b = normal(300, 32), normal(400, 32)
    text = """op @d(a: f32[M, K], b: f32[N, K]) -> (y: f32[M, N]) dims M = 300, N = 400, K = 32 {
      y[m, n] = sum[k](abs(a[m, k] - b[n, k]))
    }"""
    o = op(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_reduce, "CHUNK", 1 << 17)
        tracemalloc.start()
        got = evaluate_op(o, None, {"a": a, "b": b})["y"]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    close(got, torch.cdist(torch.from_numpy(a), torch.from_numpy(b), p=1.0))
    assert peak < 12 << 20  # the whole body would take 31 MB, twice


_LARGE = {
    "product": "y[m, n] = sum[k](x[m, k] * w[n, k])",
    "elements": "y[m, n] = w[n, m] * 2.0 + x[m, n]",
    "gather": "y[m, n] = w[n, i[m]]",
    "outside": "y[m, n] = w[n + 1, m + 3 else 0.1]",
    "fill": "y[m, n] = w[n, m else x[m, n]]",
}


@pytest.mark.parametrize("equation", _LARGE.values(), ids=_LARGE)
def test_a_large_input_is_never_wide_as_a_whole(
    equation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, k = 2048, 2048
    x, w = normal(4, k).astype(np.float32), normal(n, k).astype(np.float32)
    i = np.arange(4)[::-1] * 7
    o = op(
        f"op @d(x: f32[4, {k}], w: f32[{n}, {k}], i: i64[4]) -> (y: f32[4, {n}]) "
        f"{{ {equation.replace('y[m, n]', f'y[m in 0 to 4, n in 0 to {n}]')} }}"
    )
    inputs = {"x": x, "w": w, "i": i}
    want = evaluate_op(o, None, {"x": x.astype(float), "w": w.astype(float), "i": i})["y"]
    monkeypatch.setattr(evaluate, "AT_ONCE", 1 << 16)
    monkeypatch.setattr(evaluate_reduce, "CHUNK", 1 << 17)
    tracemalloc.start()
    got = evaluate_op(o, None, inputs)["y"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    assert peak < 8 * w.size / 4


def test_inputs_are_not_modified_and_dims_override() -> None:
    x = normal(3, 4)
    x0 = x.copy()
    o = op(
        "op @f(x: f32[B, D]) -> (y: f32[B]) dims B in 1..9 = 8, D = 4 { y[b] = sum[d](x[b, d]) }"
    )
    close(evaluate_op(o, {"B": 3}, {"x": x})["y"], x.sum(1))
    assert np.array_equal(x, x0)
    with pytest.raises(ValueError, match=r"input `x` has shape \[3, 4\]"):
        evaluate_op(o, None, {"x": x})
    with pytest.raises(ValueError, match="is missing"):
        evaluate_op(o, None, {})


def refused(text: str, **inputs: Array) -> EvaluationError:
    (o,) = parse(text).ops.values()
    with pytest.raises(EvaluationError) as caught:
        evaluate_op(o, None, inputs)
    return caught.value


def test_a_subscript_outside_names_tensor_index_and_position() -> None:
    bad = refused(
        "op @f(x: f32[N]) -> (y: f32[M]) dims N in 1..9 = 4, M in 1..9 = 5 { y[m] = x[m] + x[m] }",
        x=normal(4),
    )
    assert bad.code == "out-of-range" and bad.tensor == "x" and bad.position == {"m": 4}
    assert bad.message == "index 0 of `x`, `m`, is 4 at m = 4, outside 0 to 3"
    bad = refused(
        "op @f(x: f32[N]) -> (y: f32[N]) dims N in 1..9 = 4 { y[m] = x[m - 2] }", x=normal(4)
    )
    assert bad.position == {"m": 0} and "is -2 at m = 0" in bad.message


def test_a_gathered_subscript_outside() -> None:
    bad = refused(
        """op @f(x: f32[N, D], i: i32[M]) -> (y: f32[M, D]) dims N = 4, M = 3, D = 2 {
          y[m, d] = x[i[m], d]
        }""",
        x=normal(4, 2), i=np.array([0, 7, 1]),
    )  # fmt: skip
    assert bad.message == "index 0 of `x`, `i[m]`, is 7 at m = 1, outside 0 to 3"


def test_argmax_of_an_empty_row() -> None:
    bad = refused(
        """op @f(x: f32[T], o: i32[S]) -> (y: i32[B]) dims T = 4, B = 2, S = 3 {
          y[b] = argmax[l in o[b] to o[b + 1]](x[l])
        }""",
        x=normal(4), o=np.array([0, 4, 4]),
    )  # fmt: skip
    assert bad.code == "empty" and "no element to choose from" in bad.message
