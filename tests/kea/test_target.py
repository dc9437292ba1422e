"""The target object: what it says of itself, its errors, and that lowering stays light."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from targets.base import (
    CompileFailed,
    Established,
    IllegalProgram,
    Presence,
    Target,
    ToolchainMissing,
    UnknownArch,
)
from targets.kea import simulator
from targets.kea.target import KeaTarget
from tests.kea.kea_kernels import KERNELS
from tests.kea.kea_support import draw, program_of


def test_follows_the_protocol() -> None:
    assert isinstance(KeaTarget(), Target)
    assert KeaTarget().arch == "kea2" and KeaTarget.archs() == ("kea2", "kea1")
    for arch in KeaTarget.archs():
        spec = KeaTarget(arch).spec
        assert spec.sources and spec.units == 64
        # 64 PEs of rows x depth multiply-adds a cycle give the peak, within rounding.
        from targets.kea.archs import load

        model = load(arch).config
        macs = model["dpe_rows"] * model["dpe_depth_bytes"] / 2
        assert spec.matrix_flops["f16"] == pytest.approx(2 * 64 * macs * spec.clock_hz, rel=0.03)


def test_unknown_arch_knob_and_value() -> None:
    with pytest.raises(UnknownArch, match="kea9"):
        KeaTarget("kea9")
    module, program = program_of(KERNELS["f8"])
    for knobs in ({"warps": 4}, {"prefetch": 9}):
        with pytest.raises(IllegalProgram) as refused:
            KeaTarget().lower(module, program, knobs, program.sizes())
        assert refused.value.fix


def test_availability_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert KeaTarget().availability().presence is Presence.HERE

    def missing() -> None:
        raise simulator.SimulatorMissing("libkea_sim.so is not beside the package")

    monkeypatch.setattr(simulator, "library", missing)
    found = KeaTarget().availability()
    assert found.presence is Presence.MISSING
    assert "libkea_sim.so" in found.reason and "pip install" in found.fix


def test_missing_bindings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from lowering.mlir import adapter
    from targets.kea import execute

    def missing() -> str:
        raise adapter.MlirMissing("mlir: no module named mlir")

    monkeypatch.setattr(adapter, "package", missing)
    monkeypatch.setattr(execute, "_built", {})
    assert KeaTarget().availability().presence is Presence.MISSING
    module, program = program_of(KERNELS["f8"])
    with pytest.raises(ToolchainMissing) as raised:
        KeaTarget().compile(module, program, {}, program.sizes())
    assert "ke-gen[kea]" in raised.value.fix


def test_compile_gives_both_stages_and_memory() -> None:
    module, program = program_of(KERNELS["f8"])
    compiled = KeaTarget().compile(module, program, {}, program.sizes())
    assert "kea.dot" in compiled.stages["mlir"]
    assert "llvm.call @kea_dot" in compiled.stages["llvm"]
    assert "kea." not in compiled.stages["llvm"].replace("@kernel.", "")
    assert compiled.resources["k"].shared_bytes


def test_a_rejected_module_is_a_compile_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from lowering.mlir import lower

    module, program = program_of(KERNELS["f8"])
    real = lower.lower_program

    def broken(*args: object) -> lower.Lowered:
        lowered = real(*args)  # type: ignore[arg-type]
        return replace(lowered, text=lowered.text.replace('precision = "ieee"', 'precision = "?"'))

    monkeypatch.setattr(lower, "lower_program", broken)
    with pytest.raises(CompileFailed, match="precision"):
        KeaTarget().compile(module, program, {}, program.sizes())


def test_inputs_are_not_changed_and_outputs_are_new() -> None:
    module, program = program_of(KERNELS["shapes"])
    dims = program.sizes()
    inputs = draw(program, dims, {})
    before = {n: x.copy() for n, x in inputs.items()}
    first = KeaTarget().run(module, program, {}, dims, inputs)
    second = KeaTarget().run(module, program, {}, dims, inputs)
    assert first.established is Established.SIMULATED
    for name, x in before.items():
        np.testing.assert_array_equal(inputs[name], x)
    for name, x in first.outputs.items():
        assert x is not second.outputs[name]
        np.testing.assert_array_equal(x, second.outputs[name])


def test_lowering_imports_neither_mlir_nor_torch() -> None:
    code = f"""
import sys
from ke_ir.parser import parse
from targets.kea.target import KeaTarget
m = parse({KERNELS["f8"]!r})
p = list(m.programs.values())[-1]
KeaTarget().lower(m, p, {{}}, p.sizes())
print([n for n in ("mlir", "torch", "triton", "torch_mlir") if n in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_local_memory_is_asserted_when_it_runs() -> None:
    """What static planning let through by mistake would be caught by the simulator."""
    from targets.kea.archs import load
    from targets.kea.execute import build, simulate

    module, program = program_of(KERNELS["f8"])
    from lowering.mlir.kernel import Knobs
    from lowering.mlir.lower import lower_program

    dims = program.sizes()
    exe = build(lower_program(module, program, Knobs(), dims, 1 << 20))
    config = {**load("kea2").config, "local_bytes": 1024}
    with pytest.raises(simulator.SimulatorFault, match="local memory exceeded"):
        simulate(exe, config, dims, {}, functional=False)
