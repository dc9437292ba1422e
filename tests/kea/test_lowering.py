"""Every part of the language runs on the simulator as the interpreter says."""

from __future__ import annotations

import pytest

from targets.base import IllegalProgram
from targets.kea.target import KeaTarget
from tests.kea.kea_kernels import INPUTS, KERNELS
from tests.kea.kea_support import agree, both, program_of


@pytest.mark.parametrize("name", KERNELS)
def test_agrees_with_the_interpreter(name: str) -> None:
    _, program = program_of(KERNELS[name])
    agree(*both(KERNELS[name], given=INPUTS.get(name)), program)


@pytest.mark.parametrize("n", [1, 13, 16, 101])
def test_run_time_sizes(n: int) -> None:
    _, program = program_of(KERNELS["causal"])
    agree(*both(KERNELS["causal"], {"N": n}), program)


@pytest.mark.parametrize("mapping", ["dynamic", "round_robin", "blocked"])
@pytest.mark.parametrize("prefetch", [1, 2])
def test_knobs_do_not_change_numbers(mapping: str, prefetch: int) -> None:
    _, program = program_of(KERNELS["grouped"])
    knobs = {"mapping": mapping, "prefetch": prefetch}
    agree(*both(KERNELS["grouped"], knobs=knobs, arch="kea1"), program)


def test_one_kernel_called_at_two_sizes() -> None:
    text = """
kernel @double(%x: f32[N]) -> (%y: f32[N])
dims N = 8
{ parallel %n = 0 to N tile 8 {
 %v = load %x[%n] : f32[8]
 %d = full N : f32
 store mul %v, %d, %y[%n]
} }
program @p(%a: f32[A], %b: f32[B]) -> (%c: f32[A], %d: f32[B])
dims A = 5, B in 1..99 = 12
{
  call @double(%a) -> (%c)
  call @double(%b) -> (%d)
}
"""
    _, program = program_of(text)
    agree(*both(text, {"B": 31}), program)


def test_tiles_share_memory_when_they_must() -> None:
    chain = "\n".join(f" %v{i + 1} = add %v{i}, 1.0" for i in range(12))
    text = f"""
kernel @k(%x: f32[N]) -> (%y: f32[N])
dims N = 20000
{{ parallel %n = 0 to N tile 12000 {{
 %v0 = load %x[%n] : f32[12000]
{chain}
 store %v12, %y[%n]
}} }}
"""
    module, program = program_of(text)
    target = KeaTarget("kea1")
    used = target.compile(module, program, {}, program.sizes()).resources["k"].shared_bytes
    assert used is not None and used <= target.spec.local_bytes < 13 * 48000
    agree(*both(text, arch="kea1"), program)


def test_too_much_local_memory_is_refused_with_both_figures() -> None:
    text = KERNELS["prec_ieee"].replace("16", "512")
    module, program = program_of(text)
    with pytest.raises(IllegalProgram) as refused:
        KeaTarget("kea2").lower(module, program, {}, program.sizes())
    assert "393,216" in str(refused.value) and "7,340,032" in str(refused.value)
    assert refused.value.fix


def test_more_than_eight_dimensions_are_refused() -> None:
    ones = ", ".join(["1"] * 8)
    text = f"""
kernel @k(%x: f32[N]) -> (%y: f32[N])
dims N = 8
{{ parallel %n = 0 to N tile 8 {{
 %v = load %x[%n] : f32[8]
 %w = reshape %v : f32[{ones}, 8]
 %u = reshape %w : f32[8]
 store %u, %y[%n]
}} }}
"""
    module, program = program_of(text)
    with pytest.raises(IllegalProgram, match="9 dimensions"):
        KeaTarget().lower(module, program, {}, program.sizes())
