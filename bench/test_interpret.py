"""How fast kernels are interpreted and ops evaluated: ``pytest bench/test_interpret.py``.

Budget: a 512^3 matmul kernel in float64 within 0.5 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ke_ir.evaluate import Rounding, evaluate_op, evaluate_with_error
from ke_ir.interpret import interpret_kernel
from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.verify import check

MATMUL = """
op @matmul(a: f32[M, K], b: f32[K, N]) -> (c: f32[M, N])
dims M = 512, N = 512, K = 512
{
  c[m, n] = sum[k](a[m, k] * b[k, n])
}
kernel @matmul(%a: f32[M, K], %b: f32[K, N]) -> (%c: f32[M, N]) {
  parallel %m = 0 to M tile 64, %n = 0 to N tile 64 {
    %z = full 0.0 : f32[64, 64]
    %s = for %k = 0 to K tile 64 stages 2 carry (%acc = %z) {
      %x = load %a[%m, %k] : f32[64, 64]
      %y = load %b[%k, %n] : f32[64, 64]
      yield dot %x, %y, %acc
    }
    store %s, %c[%m, %n]
  }
}
"""
RMS_NORM = """
op @rms_norm(x: f16[B, D], w: f16[D]) -> (y: f16[B, D])
dims B in 1..65536 = 8192, D = 1024
{
  ms[b] = sum[d](x[b, d] * x[b, d]) / D
  y[b, d] = x[b, d] * rsqrt(ms[b] + 1e-6) * w[d]
}
kernel @rms_norm(%x: f16[B, D], %w: f16[D]) -> (%y: f16[B, D]) {
  parallel %b = 0 to B tile 4 {
    %z = full 0.0 : f32[4]
    %s = for %d = 0 to D tile 1024 carry (%acc = %z) {
      %f = cast load %x[%b, %d] : f16[4, 1024] : f32
      %p = mul %f, %f
      %r = reduce sum %p dim 1
      yield add %acc, %r
    }
    %n = full D : f32
    %ms = div %s, %n
    %q = rsqrt add %ms, 1e-6
    %qe = expand %q dim 1
    for %e = 0 to D tile 1024 {
      %g = cast load %x[%b, %e] : f16[4, 1024] : f32
      %v = cast load %w[%e] : f16[1024] : f32
      %ve = expand %v dim 0
      %o = mul %g, %qe
      %o2 = mul %o, %ve
      store cast %o2 : f16, %y[%b, %e]
    }
  }
}
"""
CONV1D = """
op @conv1d(x: f16[B, C, L], w: f16[O, C, 3]) -> (y: f16[B, O, L])
dims B = 16, C = 96, O = 96, L = 200
{
  y[b, o, l] = sum[c, p](x[b, c, l + p - 1 else 0] * w[o, c, p])
}
kernel @conv1d(%x: f16[B, C, L], %w: f16[O, C, 3]) -> (%y: f16[B, O, L]) {
  parallel %m = 0 to B * L tile 128, %o = 0 to O tile 32 {
    %z = full 0.0 : f32[128, 32]
    %r = for %p = 0 to 3 carry (%a = %z) {
      %q = for %c = 0 to C tile 32 carry (%acc = %a) {
        %xt = load %x[%m // L, %c, %m % L + %p - 1] : f16[128, 32]
        %wt = load %w[%o, %c, %p] : f16[32, 32]
        %wp = permute %wt [1, 0]
        yield dot %xt, %wp, %acc
      }
      yield %q
    }
    store cast %r : f16, %y[%m // L, %o, %m % L]
  }
}
"""
TEXTS = {"matmul": MATMUL, "rms_norm": RMS_NORM, "conv1d": CONV1D}


def _case(name: str) -> tuple[Module, dict[str, Any]]:
    module = check(parse(TEXTS[name]))
    (op,) = module.ops.values()
    rng = np.random.default_rng(0)
    inputs = {
        p.name: rng.standard_normal(p.type.sizes(op.sizes())).astype(p.type.dtype.numpy())
        for p in op.inputs
    }
    return module, inputs


@pytest.mark.parametrize("exact", [True, False], ids=["float64", "typed"])
@pytest.mark.parametrize("name", TEXTS)
def test_interpret(benchmark: BenchmarkFixture, name: str, exact: bool) -> None:
    module, inputs = _case(name)
    (kernel,), (op,) = module.kernels.values(), module.ops.values()
    got = benchmark(interpret_kernel, kernel, None, inputs, exact=exact)
    want = evaluate_op(op, None, inputs)
    tolerance = 1e-9 if exact else 1e-2
    for name, x in want.items():
        np.testing.assert_allclose(got[name].astype(float), x, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", TEXTS)
def test_evaluate(benchmark: BenchmarkFixture, name: str) -> None:
    module, inputs = _case(name)
    (op,) = module.ops.values()
    assert benchmark(evaluate_op, op, None, inputs)


@pytest.mark.parametrize("name", TEXTS)
def test_evaluate_with_error(benchmark: BenchmarkFixture, name: str) -> None:
    module, inputs = _case(name)
    (op,) = module.ops.values()
    assert benchmark(evaluate_with_error, op, None, inputs, Rounding())
