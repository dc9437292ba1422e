"""Kernels run as their meaning says: against numpy and torch, exact and as typed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from ke_ir.expr import Num
from ke_ir.interpret import interpret_kernel
from ke_ir.ir import For, Kernel, Parallel
from ke_ir.ops import Load
from ke_ir.parser import parse
from ke_ir.types import DType, TileType
from ke_ir.verify import check

RNG = np.random.default_rng(1)
Array = np.ndarray[Any, Any]


def kernel(text: str) -> Kernel:
    module = check(parse(text))
    (k,) = module.kernels.values()
    return k


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape)


MATMUL = """
kernel @matmul(%a: f32[M, K], %b: f32[K, N]) -> (%c: f32[M, N])
dims M in 1..512 = 100, N in 1..512 = 70, K in 1..512 = 90
{
  parallel %m = 0 to M tile 32, %n = 0 to N tile 64 order grouped(2) {
    %z = full 0.0 : f32[32, 64]
    %s = for %k = 0 to K tile 16 stages 3 carry (%acc = %z) {
      %x = load %a[%m, %k] : f32[32, 16]
      %y = load %b[%k, %n] : f32[16, 64]
      yield dot %x, %y, %acc
    }
    store %s, %c[%m, %n]
  }
}
"""


@pytest.mark.parametrize("sizes", [(1, 1, 1), (32, 64, 16), (33, 65, 17), (97, 31, 5)])
def test_matmul_of_any_size(sizes: tuple[int, int, int]) -> None:
    m, n, k = sizes
    a, b = normal(m, k), normal(k, n)
    a0, b0 = a.copy(), b.copy()
    got = interpret_kernel(kernel(MATMUL), {"M": m, "N": n, "K": k}, {"a": a, "b": b})["c"]
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, a @ b, rtol=1e-12, atol=1e-12)
    assert np.array_equal(a, a0) and np.array_equal(b, b0)


def test_typed_matmul_is_float32() -> None:
    a, b = normal(100, 90).astype(np.float32), normal(90, 70).astype(np.float32)
    got = interpret_kernel(kernel(MATMUL), None, {"a": a, "b": b}, exact=False)["c"]
    exact = a.astype(np.float64) @ b
    assert got.dtype == np.float32
    assert 0 < np.abs(got - exact).max() < 1e-4


RMS_NORM = """
kernel @rms_norm(%x: f16[B, D], %w: f16[D]) -> (%y: f16[B, D])
dims B in 1..65536 = 11, D = 200
{
  parallel %b = 0 to B tile 4 {
    %z = full 0.0 : f32[4]
    %s = for %d = 0 to D tile 64 carry (%acc = %z) {
      %f = cast load %x[%b, %d] : f16[4, 64] : f32
      %p = mul %f, %f
      %r = reduce sum %p dim 1
      yield add %acc, %r
    }
    %n = full D : f32
    %ms = div %s, %n
    %q = rsqrt add %ms, 1e-6
    %qe = expand %q dim 1
    for %e = 0 to D tile 64 {
      %g = cast load %x[%b, %e] : f16[4, 64] : f32
      %v = cast load %w[%e] : f16[64] : f32
      %ve = expand %v dim 0
      %o = mul %g, %qe
      %o2 = mul %o, %ve
      store cast %o2 : f16, %y[%b, %e]
    }
  }
}
"""


def test_rms_norm_exact_and_typed() -> None:
    x, w = normal(11, 200).astype(np.float16), normal(200).astype(np.float16)
    wide = x.astype(np.float64)
    want = wide / np.sqrt((wide**2).mean(1, keepdims=True) + 1e-6) * w
    exact = interpret_kernel(kernel(RMS_NORM), None, {"x": x, "w": w})["y"]
    np.testing.assert_allclose(exact, want, rtol=1e-13)
    typed = interpret_kernel(kernel(RMS_NORM), None, {"x": x, "w": w}, exact=False)["y"]
    assert typed.dtype == np.float16
    assert np.all(np.abs(typed.astype(float) - want) <= 2.0**-10 * np.abs(want) + 1e-7)


ATTENTION = """
kernel @flash(%q: f32[N, D], %k: f32[N, D], %v: f32[N, D]) -> (%o: f32[N, D])
dims N in 1..4096 = 100, D = 16
{
  parallel %i = 0 to N tile 32, %d = 0 to D tile 16 {
    %qt = load %q[%i, %d] : f32[32, 16]
    %row = iota %i : i32[32]
    %rows = expand %row dim 1
    %m0 = full -inf : f32[32]
    %l0 = full 0.0 : f32[32]
    %o0 = full 0.0 : f32[32, 16]
    %m, %l, %acc = for %j = 0 to end(%i) tile 16 carry (%mi = %m0, %li = %l0, %oi = %o0) {
      %kt = load %k[%j, %d] : f32[16, 16]
      %kp = permute %kt [1, 0]
      %sd = dot %qt, %kp
      %s = mul %sd, 0.25
      %col = iota %j : i32[16]
      %cols = expand %col dim 0
      %live = cmp le %cols, %rows
      %sm = select %live, %s, -inf
      %mj = reduce max %sm dim 1
      %mn = max %mi, %mj
      %me = expand %mn dim 1
      %p = exp sub %sm, %me
      %fix = exp sub %mi, %mn
      %ps = reduce sum %p dim 1
      %lf = mul %li, %fix
      %ln = add %lf, %ps
      %fe = expand %fix dim 1
      %of = mul %oi, %fe
      %vt = load %v[%j, %d] : f32[16, 16]
      %on = dot %p, %vt, %of
      yield %mn, %ln, %on
    }
    %le = expand %l dim 1
    store div %acc, %le, %o[%i, %d]
  }
}
"""


@pytest.mark.parametrize("n", [1, 16, 97, 100])
def test_causal_attention_with_bounds_of_a_tile(n: int) -> None:
    q, k, v = normal(3, n, 16)
    got = interpret_kernel(kernel(ATTENTION), {"N": n}, {"q": q, "k": k, "v": v})["o"]
    want = torch.nn.functional.scaled_dot_product_attention(
        *(torch.from_numpy(t)[None] for t in (q, k, v)), is_causal=True
    )
    np.testing.assert_allclose(got, want[0].numpy(), rtol=1e-11, atol=1e-12)


CONV1D = """
kernel @conv1d(%x: f16[B, C, L], %w: f16[O, C, 3]) -> (%y: f16[B, O, L])
dims B = 3, C = 20, O = 9, L = 17
{
  parallel %m = 0 to B * L tile 16, %o = 0 to O tile 8 {
    %z = full 0.0 : f32[16, 8]
    %r = for %p = 0 to 3 carry (%a = %z) {
      %q = for %c = 0 to C tile 8 carry (%acc = %a) {
        %xt = load %x[%m // L, %c, %m % L + %p - 1] : f16[16, 8]
        %wt = load %w[%o, %c, %p] : f16[8, 8]
        %wp = permute %wt [1, 0]
        yield dot %xt, %wp, %acc
      }
      yield %q
    }
    store cast %r : f16, %y[%m // L, %o, %m % L]
  }
}
"""


def test_implicit_gemm_convolution() -> None:
    x, w = normal(3, 20, 17), normal(9, 20, 3)
    got = interpret_kernel(kernel(CONV1D), None, {"x": x, "w": w})["y"]
    want = torch.conv1d(torch.from_numpy(x), torch.from_numpy(w), padding=1)
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-12, atol=1e-12)


GATHER = """
kernel @rows(%t: f32[V, D], %idx: i32[T], %off: i32[S]) -> (%y: f32[B, D])
dims V = 13, D = 10, T = 40, B = 6, S = B + 1
{
  parallel %b = 0 to B, %d = 0 to D tile 4 {
    %lo = load %off[%b] : i32
    %hi = load %off[%b + 1] : i32
    %z = full 0.0 : f32[4]
    %s = for %l = %lo to %hi tile 8 carry (%acc = %z) {
      %ix = load %idx[%l else -1] : i32[8]
      %rows = load %t[%ix, %d] : f32[8, 4]
      %r = reduce sum %rows dim 0
      yield add %acc, %r
    }
    store %s, %y[%b, %d]
  }
}
"""


def test_gather_of_jagged_rows() -> None:
    t, idx = normal(13, 10), RNG.integers(0, 13, 40).astype(np.int32)
    off = np.int32([0, 0, 3, 20, 20, 29, 40])
    got = interpret_kernel(kernel(GATHER), None, {"t": t, "idx": idx, "off": off})["y"]
    want = [t[idx[a:b]].sum(0) for a, b in pairwise(off)]
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-13)


SPLIT_K = """
kernel @splitk(%a: f32[M, K], %b: f32[K, N]) -> (%c: f32[M, N])
dims M = 20, N = 12, K = 50
{
  parallel %m = 0 to M tile 16, %n = 0 to N tile 8, %k = 0 to K tile 16 {
    %x = load %a[%m, %k] : f32[16, 16]
    %y = load %b[%k, %n] : f32[16, 8]
    %d = dot %x, %y
    accumulate add %d, %c[%m, %n]
  }
}
"""


def test_split_k_accumulates_from_zero() -> None:
    a, b = normal(20, 50), normal(50, 12)
    got = interpret_kernel(kernel(SPLIT_K), None, {"a": a, "b": b})["c"]
    np.testing.assert_allclose(got, a @ b, rtol=1e-12, atol=1e-12)


def test_scatter_add_with_repeated_indices_and_max() -> None:
    k = kernel("""
    kernel @scatter(%x: f32[T], %i: i32[T]) -> (%y: f32[V], %m: f32[V])
    dims T = 50, V = 7
    {
      parallel %t = 0 to T tile 16 {
        %v = load %x[%t] : f32[16]
        %ix = load %i[%t else -1] : i32[16]
        accumulate add %v, %y[%ix]
        accumulate max %v, %m[%ix]
      }
    }
    """)
    x, i = normal(50), RNG.integers(0, 6, 50).astype(np.int32)
    got = interpret_kernel(k, None, {"x": x, "i": i})
    want = np.zeros(7)
    np.add.at(want, i, x)
    np.testing.assert_allclose(got["y"], want, rtol=1e-13)
    assert got["m"][6] == -np.inf and got["m"][i[0]] == x[i == i[0]].max()


def test_argmax_scan_reshape_permute() -> None:
    k = kernel("""
    kernel @mix(%x: f32[4, 6]) -> (%i: i32[4], %s: f32[4, 6], %r: f32[12, 2])
    dims D = 6
    {
      parallel %b = 0 to 4 tile 4, %d = 0 to D tile 6, %p = 0 to 12 tile 12, %q = 0 to 2 tile 2 {
        %v = load %x[%b, %d] : f32[4, 6]
        %a = reduce argmax %v dim 1
        store %a, %i[%b]
        %c = scan sum %v dim 1 reverse
        store %c, %s[%b, %d]
        %t = permute %v [1, 0]
        %u = reshape %t : f32[12, 2]
        store %u, %r[%p, %q]
      }
    }
    """)
    x = normal(4, 6)
    x[2, 3] = x[2, 1] = 9.0
    got = interpret_kernel(k, None, {"x": x})
    assert got["i"].tolist() == x.argmax(1).tolist() and got["i"][2] == 1
    np.testing.assert_allclose(got["s"], x[:, ::-1].cumsum(1)[:, ::-1])
    np.testing.assert_array_equal(got["r"], x.T.reshape(12, 2))


def test_strided_shifted_and_diagonal_coordinates() -> None:
    k = kernel("""
    kernel @pick(%x: f32[L, L]) -> (%y: f32[P, P], %g: f32[P])
    dims L = 11, P = 7
    {
      parallel %i = 0 to P tile 4, %j = 0 to P tile 4 {
        %v = load %x[2 * %i - 1, %j + 6 else 5.0] : f32[4, 4]
        store %v, %y[%i, %j]
        %d = load %x[%i, %i] : f32[4]
        accumulate max %d, %g[%i]
      }
    }
    """)
    x = normal(11, 11)
    got = interpret_kernel(k, None, {"x": x})
    for i in range(7):
        for j in range(7):
            inside = 0 <= 2 * i - 1 < 11 and j + 6 < 11
            assert got["y"][i, j] == (x[2 * i - 1, j + 6] if inside else 5.0)
    np.testing.assert_array_equal(got["g"], np.diag(x)[:7])


def test_outside_the_loop_reads_else_though_inside_the_tensor() -> None:
    k = kernel("""
    kernel @part(%x: f32[20]) -> (%y: f32[3])
    dims D = 20
    {
      parallel %b = 0 to 3 {
        %z = full 0.0 : f32
        %s = for %d = 4 * %b to 4 * %b + 3 tile 8 carry (%a = %z) {
          %v = load %x[%d] : f32[8]
          %r = reduce sum %v dim 0
          yield add %a, %r
        }
        store %s, %y[%b]
      }
    }
    """)
    x = normal(20)
    got = interpret_kernel(k, None, {"x": x})["y"]
    np.testing.assert_allclose(got, [x[4 * b : 4 * b + 3].sum() for b in range(3)])


def test_a_loop_without_iterations_gives_its_initial_values() -> None:
    k = kernel("""
    kernel @none(%n: i32[], %x: f32[8]) -> (%y: f32[])
    dims D = 8
    {
      parallel %b = 0 to 1 {
        %hi = load %n[] : i32
        %z = full 3.0 : f32
        %s = for %d = 0 to %hi carry (%a = %z) {
          %v = load %x[%d] : f32
          yield add %a, %v
        }
        store %s, %y[]
      }
    }
    """)
    x = normal(8)
    for n in (0, 5):
        got = interpret_kernel(k, None, {"n": np.int32(n), "x": x})["y"]
        np.testing.assert_allclose(got, 3 + x[:n].sum())


def test_carried_values_may_be_swapped_and_names_reused() -> None:
    k = kernel("""
    kernel @swap(%x: f32[2]) -> (%y: f32[2])
    dims D = 2
    {
      parallel %b = 0 to 1 {
        %p = load %x[0] : f32
        %q = load %x[1] : f32
        %u, %v = for %t = 0 to 3 carry (%m = %p, %n = %q) {
          yield %n, %m
        }
        store %u, %y[0]
        for %t = 1 to 2 tile 4 {
          %i = iota %t : i32[4]
          %f = cast %i : f32
          %g = mul %f, 0.0
          %h = add %g, %v
          store %h, %y[%t]
        }
      }
    }
    """)
    got = interpret_kernel(k, None, {"x": np.array([1.0, 2.0])})["y"]
    assert got.tolist() == [2.0, 1.0]


def test_one_statement_object_may_stand_in_two_loops() -> None:
    k = kernel("""
    kernel @twice(%x: f32[D]) -> (%y: f32[])
    dims D = 20
    {
      parallel %b = 0 to 1 {
        for %d = 0 to 10 tile 4 {
          %v = load %x[%d] : f32[4]
          %r = reduce sum %v dim 0
          accumulate add %r, %y[]
        }
      }
    }
    """)
    (outer,) = k.body
    assert isinstance(outer, Parallel)
    (first,) = outer.body
    assert isinstance(first, For) and isinstance(first.body[0], Load)
    load = replace(first.body[0], type=TileType(DType.F32, (8,)))
    second = replace(
        first,
        var=replace(first.var, lo=Num(10), hi=Num(20), tile=8),
        body=(load, *first.body[1:]),
    )
    assert load.coords is first.body[0].coords
    both = replace(k, body=(replace(outer, body=(first, second)),))
    x = normal(20)
    np.testing.assert_allclose(interpret_kernel(both, None, {"x": x})["y"], x.sum())


def test_integers_are_exactly_as_typed() -> None:
    k = kernel("""
    kernel @ints(%x: i8[4], %y: i32[4]) -> (%a: i8[4], %b: i32[4], %c: i1[4], %d: i32[4])
    dims D = 4
    {
      parallel %i = 0 to D tile 4 {
        %u = load %x[%i] : i8[4]
        %w = add %u, %u
        store %w, %a[%i]
        %v = load %y[%i] : i32[4]
        %m = mod %v, 3
        store %m, %b[%i]
        %c1 = cmp lt %v, 0
        store %c1, %c[%i]
        %s = shr %v, 1
        store %s, %d[%i]
      }
    }
    """)
    x, y = np.int8([100, -100, 3, 0]), np.int32([-4, 4, 2**31 - 1, -1])
    for exact in (True, False):
        got = interpret_kernel(k, None, {"x": x, "y": y}, exact=exact)
        assert got["a"].dtype == np.int8 and got["a"].tolist() == [-56, 56, 6, 0]
        assert got["b"].tolist() == [2, 1, (2**31 - 1) % 3, 2]
        assert got["c"].tolist() == [True, False, False, True]
        assert got["d"].tolist() == [-2, 2, 2**30 - 1, -1]


@pytest.mark.parametrize("name", ["bf16", "f16", "f8e4m3", "f8e5m2"])
def test_typed_arithmetic_rounds_after_every_op(name: str) -> None:
    k = kernel(f"""
    kernel @fma(%x: {name}[64], %y: {name}[64]) -> (%z: {name}[64])
    dims D = 64
    {{
      parallel %i = 0 to D tile 32 {{
        %a = load %x[%i] : {name}[32]
        %b = load %y[%i] : {name}[32]
        %p = mul %a, %b
        %s = add %p, 0.1
        store %s, %z[%i]
      }}
    }}
    """)
    dtype = k.inputs[0].type.dtype.numpy()
    x, y = normal(64).astype(dtype), normal(64).astype(dtype)
    got = interpret_kernel(k, None, {"x": x, "y": y}, exact=False)["z"]
    product = (x.astype(np.float32) * y.astype(np.float32)).astype(dtype)
    want = (product.astype(np.float32) + np.float32(0.1)).astype(dtype)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got.astype(float), want.astype(float))


def test_typed_dot_of_bfloat16_accumulates_in_float32() -> None:
    k = kernel("""
    kernel @d(%a: bf16[16, 64], %b: bf16[64, 16]) -> (%c: f32[16, 16])
    dims M = 16, K = 64
    {
      parallel %m = 0 to M tile 16, %n = 0 to M tile 16, %k = 0 to K tile 64 {
        %x = load %a[%m, %k] : bf16[16, 64]
        %y = load %b[%k, %n] : bf16[64, 16]
        %d = dot %x, %y
        store %d, %c[%m, %n]
      }
    }
    """)
    a, b = normal(16, 64).astype(ml_dtypes.bfloat16), normal(64, 16).astype(ml_dtypes.bfloat16)
    got = interpret_kernel(k, None, {"a": a, "b": b}, exact=False)["c"]
    want = a.astype(np.float64) @ b.astype(np.float64)
    assert 0 < np.abs(got - want).max() < 1e-5


def test_precision_shows_only_when_typed() -> None:
    text = MATMUL.replace("dot %x, %y, %acc", "dot %x, %y, %acc precision tf32")
    a, b = normal(100, 90).astype(np.float32), normal(90, 70).astype(np.float32)
    want = a.astype(np.float64) @ b.astype(np.float64)
    exact = interpret_kernel(kernel(text), None, {"a": a, "b": b})["c"]
    typed = interpret_kernel(kernel(text), None, {"a": a, "b": b}, exact=False)["c"]
    assert np.abs(exact - want).max() < 1e-12
    assert 1e-4 < np.abs(typed - want).max() < 5e-2
