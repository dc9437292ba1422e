"""The timing model: overlap, bandwidth floors, the published checks."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ke_ir.parser import parse
from lowering.mlir.kernel import Knobs
from lowering.mlir.lower import lower_program
from targets.base import Kind
from targets.kea.archs import load
from targets.kea.execute import build, simulate
from targets.kea.simulator import Report
from targets.kea.target import KeaTarget
from tests.ir.once_program import TEXT, linear
from tests.kea.kea_support import program_of, simulated


def matmul(
    n: int = 1024, tile: tuple[int, int, int] = (128, 128, 64), stages: int = 2, dtype: str = "bf16"
) -> str:
    m, c, k = tile
    return f"""
kernel @mm(%a: {dtype}[M, K], %b: {dtype}[K, N]) -> (%c: {dtype}[M, N])
dims M = {n}, N = {n}, K = {n}
{{ parallel %m = 0 to M tile {m}, %n = 0 to N tile {c} {{
  %s = for %k = 0 to K tile {k} stages {stages} carry (%acc = full 0.0 : f32[{m}, {c}]) {{
    %x = load %a[%m, %k] : {dtype}[{m}, {k}]
    %y = load %b[%k, %n] : {dtype}[{k}, {c}]
    yield dot %x, %y, %acc
  }}
  store cast %s : {dtype}, %c[%m, %n]
}} }}
"""


def warm(text: str, sizes: Mapping[str, int] | None = None) -> Report:
    """A run on KEA-2 with the operands in SRAM, as GEMMs are published."""
    arch = load("kea2")
    module, program = program_of(text)
    dims = program.sizes(sizes)
    lowered = lower_program(module, program, Knobs(), dims, arch.spec.local_bytes)
    return simulate(build(lowered), arch.config, dims, {}, functional=False, warm=True).report


def fraction_of_peak(report: Report) -> float:
    spec = load("kea2").spec
    return 2 * report.macs / (report.cycles / spec.clock_hz) / spec.matrix_flops["bf16"]


def test_stages_overlap_loads_with_products() -> None:
    times = [warm(matmul(stages=s)).cycles for s in (1, 2, 3)]
    assert times[1] < 0.7 * times[0]
    assert times[2] <= times[1] * 1.01


@pytest.mark.parametrize("arch", ["kea1", "kea2"])
@pytest.mark.parametrize("stages", [1, 2, 4])
def test_never_faster_than_memory_or_engines(arch: str, stages: int) -> None:
    spec = load(arch).spec
    t = simulated(matmul(512, (64, 64, 64), stages), arch=arch)
    assert t.kind is Kind.SIMULATED and t.on == f"{spec.name} simulator"
    assert t.seconds >= float(t.detail["lpddr_bytes"]) / spec.dram_bytes_per_s
    assert t.seconds >= float(t.detail["sram_bytes"]) / spec.cache_bytes_per_s
    assert t.seconds >= 2 * 512**3 / spec.matrix_flops["bf16"]
    assert float(t.detail["lpddr_bytes"]) >= 3 * 512 * 512 * 2
    busy = [float(v) for k, v in t.detail.items() if k.endswith("_busy_fraction")]
    assert all(0 <= b <= 1 for b in busy)


def test_a_copy_is_bound_by_lpddr() -> None:
    text = """
kernel @copy(%x: f32[N]) -> (%y: f32[N])
dims N = 8388608
{ parallel %n = 0 to N tile 8192 {
  %v = load %x[%n] : f32[8192]
  store %v, %y[%n]
} }
"""
    seconds = simulated(text).seconds
    floor = 2 * 4 * 8388608 / load("kea2").spec.dram_bytes_per_s
    assert floor <= seconds < 1.05 * floor


def test_large_gemm_is_near_the_published_fraction_of_peak() -> None:
    # Published for MTIA 2i: more than 92 % at 2048^3.
    assert fraction_of_peak(warm(matmul(2048, (256, 128, 128)))) > 0.92
    assert fraction_of_peak(warm(matmul(4096, (256, 128, 128)))) > 0.95


def test_small_tiles_are_bound_by_issue() -> None:
    # Sixteen PEs at work, so that the SRAM's bandwidth does not decide.
    run = warm(matmul(tile=(16, 16, 16), stages=16), {"M": 64, "N": 64, "K": 8192})
    issue, dpe = run.issue_cycles / 16 / run.cycles, run.busy["dpe"] / 16 / run.cycles
    assert issue > 0.85 > 0.5 > dpe
    assert issue > run.busy["dma_in"] / 16 / run.cycles


def test_narrow_types_and_precision_cost_what_they_should() -> None:
    base = matmul(256, (128, 128, 64), dtype="f32")
    times = {
        p: float(simulated(base.replace("%acc\n", f"%acc precision {p}\n")).detail["cycles"])
        for p in ("tf32", "tf32_even", "bf16x3", "bf16x6", "ieee")
    }
    assert times["tf32_even"] == times["tf32"] < times["bf16x3"] < times["bf16x6"] < times["ieee"]


def test_sram_keeps_what_was_read() -> None:
    """Every PE reads all of B, but LPDDR delivers it once."""
    t = simulated(matmul(1024))
    assert float(t.detail["lpddr_bytes"]) == 3 * 1024 * 1024 * 2
    assert float(t.detail["sram_bytes"]) > 8 * 1024 * 1024 * 2


def test_scattered_elements_cost_whole_granules() -> None:
    def column(stride: int) -> float:
        text = f"""
kernel @k(%x: f32[N]) -> (%y: f32[M])
dims M = 4096, N = {4096 * stride}
{{ parallel %m = 0 to M tile 512 {{
  %v = load %x[%m * {stride}] : f32[512]
  store %v, %y[%m]
}} }}
"""
        return float(simulated(text).detail["sram_bytes"])

    assert column(32) > 8 * column(1)


def test_data_dependent_bounds_are_read_in_a_timing_run() -> None:
    text = """
kernel @k(%x: f32[T], %o: i32[B1]) -> (%y: f32[B])
dims B = 64, B1 = 65, T = 65536
{ parallel %b = 0 to B {
  %lo = load %o[%b] : i32
  %hi = load %o[%b + 1] : i32
  %s = for %t = %lo to %hi tile 256 stages 2 carry (%a = full 0.0 : f32) {
    %v = load %x[%t] : f32[256]
    yield add %a, reduce sum %v dim 0
  }
  store %s, %y[%b]
} }
"""
    import numpy as np

    module, program = program_of(text)
    target, dims = KeaTarget(), program.sizes()
    even = target.time(module, program, {}, dims)
    assert even.detail["made_up"] == "o"
    offsets = np.full(65, 65536, np.int32)
    offsets[0] = 0
    skewed = target.time(module, program, {}, dims, {"o": offsets})
    assert "made_up" not in skewed.detail
    assert skewed.seconds > 5 * even.seconds


def test_estimate_follows_the_simulator() -> None:
    for text in (matmul(1024), matmul(1024, stages=1), matmul(512, (16, 16, 16))):
        module, program = program_of(text)
        target, dims = KeaTarget(), program.sizes()
        estimate = target.estimate(module, program, {}, dims)
        assert estimate.kind is Kind.ESTIMATED
        ratio = estimate.seconds / target.time(module, program, {}, dims).seconds
        assert 0.4 < ratio < 2


def test_what_is_computed_once_is_timed_apart() -> None:
    module, program = linear()
    target, dims = KeaTarget(), program.sizes({"B": 64})
    for time in (target.time, target.estimate):
        whole, larger = (
            time(module, program, {}, dims),
            time(module, program, {}, {**dims, "B": 2048}),
        )
        assert float(whole.detail["once_seconds"]) > 0
        assert whole.detail["once_seconds"] == larger.detail["once_seconds"]
        assert larger.seconds > whole.seconds
        every = parse(TEXT.replace("once {", "").replace("(%t)\n  }", "(%t)"))
        each = time(every, every.programs["linear"], {}, dims)
        assert "once_seconds" not in each.detail and each.seconds > whole.seconds


def test_what_starts_from_the_identity_is_written_as_a_whole() -> None:
    """A few terms added to a large output: all of it goes to memory all the same."""
    text = """
kernel @k(%x: f32[N], %i: i32[N]) -> (%y: f32[V])
dims N = 64, V = 4194304
{ parallel %n = 0 to N tile 64 {
 %v = load %i[%n] : i32[64]
 %a = load %x[%n] : f32[64]
 accumulate add %a, %y[%v]
} }
"""
    spec = load("kea2").spec
    timing = simulated(text)
    assert timing.seconds >= 4 * 4194304 / spec.dram_bytes_per_s
    assert timing.kind is Kind.SIMULATED
