"""How fast the KEA simulator is: ``pytest bench/test_kea.py``.

Budgets: timing of a 4096^3 bf16 GEMM within 1 s, a functional 512^3 within 0.5 s; lowering and JIT
apart (in ``extra_info`` of the JSON, and printed).
"""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.verify import check
from targets.kea.target import KeaTarget

GEMM = """
op @gemm(a: bf16[M, K], b: bf16[K, N]) -> (c: bf16[M, N])
dims M = 4096, N = 4096, K = 4096
{
  c[m, n] = sum[k](a[m, k] * b[k, n])
}
kernel @gemm(%a: bf16[M, K], %b: bf16[K, N]) -> (%c: bf16[M, N]) {
  parallel %m = 0 to M tile 128, %n = 0 to N tile 128 {
    %z = full 0.0 : f32[128, 128]
    %s = for %k = 0 to K tile 64 stages 3 carry (%acc = %z) {
      %x = load %a[%m, %k] : bf16[128, 64]
      %y = load %b[%k, %n] : bf16[64, 128]
      yield dot %x, %y, %acc
    }
    store cast %s : bf16, %c[%m, %n]
  }
}
"""


@pytest.fixture(scope="module")
def gemm() -> Module:
    return check(parse(GEMM))


def test_timing_4096(benchmark: BenchmarkFixture, gemm: Module) -> None:
    """Timing only: no data is computed."""
    kea, program = KeaTarget("kea2"), gemm.programs["gemm"]
    dims = program.sizes()
    timing = benchmark(lambda: kea.time(gemm, program, {}, dims))
    benchmark.extra_info.update(
        simulated_seconds=timing.seconds,
        lowering_seconds=timing.detail["lowering_seconds"],
        jit_seconds=timing.detail["jit_seconds"],
        simulator_wall_seconds=timing.detail["simulator_wall_seconds"],
    )
    print(f"\n4096^3 bf16 GEMM: {timing.seconds * 1e3:.3f} ms simulated on {timing.on};", *(
        f"{k} {float(timing.detail[k]):.3f}"
        for k in ("lowering_seconds", "jit_seconds", "simulator_wall_seconds")
    ))  # fmt: skip


def test_functional_512(benchmark: BenchmarkFixture, gemm: Module) -> None:
    """With data, f32 accumulation."""
    kea, program = KeaTarget("kea2"), gemm.programs["gemm"]
    dims = program.sizes({"M": 512, "N": 512, "K": 512})
    rng = np.random.default_rng(0)
    bf16 = gemm.kernels["gemm"].inputs[0].type.dtype.numpy()
    inputs = {n: rng.standard_normal((512, 512)).astype(bf16) for n in "ab"}
    result = benchmark(lambda: kea.run(gemm, program, {}, dims, inputs))
    want = inputs["a"].astype(float) @ inputs["b"].astype(float)
    assert np.abs(result.outputs["c"].astype(float) - want).max() < 0.5
