"""Counting work from a tile program, and the time model on it."""

from __future__ import annotations

import pytest

from ke_ir.parser import parse
from lowering.work import Work, analyse_program
from targets.amd.specs import SPECS as AMD
from targets.base import Kind
from targets.gpu.model import estimate, roofline_seconds
from targets.nvidia.specs import SPECS as NVIDIA

H100 = NVIDIA["sm_90"].hardware

MATMUL = """
kernel @mm(%a: bf16[M, K], %b: bf16[K, N]) -> (%c: bf16[M, N])
dims M = {m}, N = {n}, K = {k}
{{
  parallel %m = 0 to M tile {tm}, %n = 0 to N tile 128 {{
    %z = full 0.0 : f32[{tm}, 128]
    %s = for %k = 0 to K tile 64 stages {stages} carry (%acc = %z) {{
      %x = load %a[%m, %k] : bf16[{tm}, 64]
      %y = load %b[%k, %n] : bf16[64, 128]
      %d = dot %x, %y, %acc
      yield %d
    }}
    %o = cast %s : bf16
    store %o, %c[%m, %n]
  }}
}}
"""
CAUSAL = """
kernel @rows(%x: f32[N, N]) -> (%y: f32[N])
dims N = 1024
{
  parallel %i = 0 to N tile 64 {
    %z = full 0.0 : f32[64]
    %s = for %j = 0 to end(%i) tile 64 carry (%acc = %z) {
      %v = load %x[%i, %j] : f32[64, 64]
      %r = reduce sum %v dim 1
      %t = add %acc, %r
      yield %t
    }
    store %s, %y[%i]
  }
}
"""
JAGGED = """
kernel @sums(%o: i32[B + 1], %x: f32[T]) -> (%y: f32[B])
dims B = 100, T = 6400
{
  parallel %b = 0 to B {
    %lo = load %o[%b] : i32
    %hi = load %o[%b + 1] : i32
    %z = full 0.0 : f32[16]
    %s = for %j = %lo to %hi tile 16 carry (%acc = %z) {
      %v = load %x[%j] : f32[16]
      %t = add %acc, %v
      yield %t
    }
    %r = reduce sum %s dim 0
    store %r, %y[%b]
  }
}
"""
GATHER = """
kernel @rows(%i: i64[B], %x: f32[V, D]) -> (%y: f32[B, D])
dims B = 64, V = 1000, D = 128
{
  parallel %b = 0 to B tile 8, %d = 0 to D tile 128 {
    %n = load %i[%b] : i64[8]
    %v = load %x[%n, %d] : f32[8, 128]
    store %v, %y[%b, %d]
  }
}
"""


def work(source: str, pad: bool = True) -> Work:
    module = parse(source)
    (program,) = module.programs.values()
    return analyse_program(module, program, program.sizes(), pad)


def matmul(m: int, n: int, k: int, tm: int = 128, stages: int = 3) -> str:
    return MATMUL.format(m=m, n=n, k=k, tm=tm, stages=stages)


def test_matmul_counts_are_exact() -> None:
    found = work(matmul(1024, 512, 256))
    (kernel, times), *rest = found.launches
    assert not rest and times == 1 and kernel.groups == 8 * 4
    assert kernel.matrix_flops == {"bf16": 2.0 * 1024 * 512 * 256}
    assert kernel.reads == {"a": 2.0 * 1024 * 256, "b": 2.0 * 256 * 512}
    assert kernel.writes == {"c": 2.0 * 1024 * 512}
    # a is read by each of 4 column tiles, b by each of 8 row tiles.
    assert kernel.traffic_bytes == 4 * kernel.reads["a"] + 8 * kernel.reads["b"] + 2 * 1024 * 512
    assert kernel.steps == 4 and kernel.stages == 3
    assert found.input_bytes == 2.0 * (1024 + 512) * 256
    assert found.output_bytes == 2.0 * 1024 * 512


def test_partial_tiles_compute_whole_but_move_only_what_is_there() -> None:
    found, exact = work(matmul(100, 128, 64, tm=96)), work(matmul(96, 128, 64, tm=96), pad=False)
    kernel = found.launches[0][0]
    assert kernel.groups == 2
    assert kernel.matrix_flops == {"bf16": 2 * 2.0 * 128 * 128 * 64}  # 96 is padded to 128
    assert exact.matrix_flops == {"bf16": 2.0 * 96 * 128 * 64}
    assert kernel.reads["a"] == 2.0 * 100 * 64
    assert kernel.traffic_bytes == pytest.approx(2 * (100 * 64 + 2 * 64 * 128 + 100 * 128))


def test_triangular_loops_are_averaged() -> None:
    kernel = work(CAUSAL).launches[0][0]
    tiles = 16 * 17 // 2
    assert kernel.steps == pytest.approx(tiles / 16)
    assert kernel.traffic_bytes == pytest.approx(4 * (tiles * 64 * 64 + 1024))
    assert kernel.reads["x"] <= 4 * tiles * 64 * 64


def test_data_dependent_bounds_state_an_assumption() -> None:
    found = work(JAGGED)
    kernel = found.launches[0][0]
    assert kernel.steps == 4  # 6400 elements over 100 rows, in tiles of 16
    assert kernel.least_reads.get("x") is None and kernel.reads["x"] == 4 * 6400
    assert len(found.assumptions) == 1 and "share 6400 elements evenly" in found.assumptions[0]


def test_gathered_rows_are_no_part_of_the_roofline() -> None:
    found = work(GATHER)
    kernel = found.launches[0][0]
    assert kernel.reads["x"] == 4 * 64 * 128  # no more than is loaded
    assert found.input_bytes == 8 * 64


def test_estimate_never_beats_the_roofline() -> None:
    for size in (128, 512, 4096):
        for spec in (*NVIDIA.values(), *AMD.values()):
            found = work(matmul(size, size, size))
            timing = estimate(found, spec.hardware)
            assert timing.kind is Kind.ESTIMATED and spec.hardware.name in timing.on
            assert timing.seconds >= roofline_seconds(found, spec.hardware)


def test_estimate_of_a_large_product_is_plausible() -> None:
    """cuBLAS takes 177 us for bf16 4096^3 on an H100, a good Triton kernel 192 us."""
    seconds = estimate(work(matmul(4096, 4096, 4096)), H100).seconds
    assert 1.4e-4 < seconds < 3e-4


def test_estimate_ranks_what_it_must() -> None:
    def seconds(**how: int) -> float:
        return estimate(work(matmul(4096, 4096, 4096, **how)), H100).seconds

    assert seconds(tm=128) < seconds(tm=16), "small tiles move more"
    assert seconds(stages=3) <= seconds(stages=1), "overlap never costs"


def test_a_missing_matrix_format_costs_more() -> None:
    f32 = matmul(1024, 1024, 1024).replace("bf16", "f32").replace("cast %s : f32", "mul %s, 1.0")
    bf16, plain = work(matmul(1024, 1024, 1024)), work(f32)
    assert plain.matrix_flops.keys() == {"f32"}
    assert roofline_seconds(plain, H100) > 10 * roofline_seconds(bf16, H100)
