"""The target object: what it says of itself, its errors, and that lowering stays light."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from ke_ir.derive import with_derived
from ke_ir.parser import parse
from ke_ir.verify import check
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


def test_inputs_are_read_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights may be of gigabytes: no second copy of them is made."""
    module, program = program_of(KERNELS["f8"])
    inputs = draw(program, program.sizes(), {})
    real, shared = KeaTarget._simulate, []

    def watched(self: KeaTarget, exe: Any, dims: Any, arrays: Any, functional: bool) -> Any:
        shared.extend(np.shares_memory(arrays[name], x) for name, x in inputs.items())
        return real(self, exe, dims, arrays, functional)

    monkeypatch.setattr(KeaTarget, "_simulate", watched)
    KeaTarget().run(module, program, {}, program.sizes(), inputs)
    assert shared == [True] * len(inputs)


def test_a_program_that_writes_to_an_input_is_stopped_before_it_does() -> None:
    from dataclasses import replace

    from lowering.mlir.kernel import Knobs
    from lowering.mlir.lower import lower_program
    from targets.kea.archs import load
    from targets.kea.execute import build, simulate

    for name in ("f8", "scatter"):
        module, program = program_of(KERNELS[name])
        dims = program.sizes()
        lowered = lower_program(module, program, Knobs(), dims, 1 << 18)
        wrong = replace(lowered, roles={p.name: "input" for p in lowered.tensors})
        arrays = {
            p.name: np.full(p.type.sizes(dims), 1, p.type.dtype.numpy()) for p in lowered.tensors
        }
        with pytest.raises(simulator.SimulatorFault, match="writes to an input"):
            simulate(build(wrong), load("kea2").config, dims, arrays)
        assert all((x == 1).all() for x in arrays.values())


def test_sizes_are_those_of_the_program_at_hand() -> None:
    """Two programs may have the same text and tensors of other sizes."""
    for n, want in ((2, [3.0, 0.0]), (3, [3.0, 3.0])):
        op = f"op @f(x: f32[{n}]) -> (y: f32[2]) {{ y[i] = x[i + 1 else 0.0] }}"
        module = with_derived(check(parse(op)))
        program = module.programs["f"]
        x = np.full(n, 3.0, np.float32)
        found = KeaTarget().run(module, program, {}, program.sizes(), {"x": x})
        assert found.outputs["y"].tolist() == want


def test_a_long_sum_of_products_is_rounded_block_by_block() -> None:
    """One sum of all terms in float32 would be off by a multiple of this."""
    module, program = program_of(KERNELS["prec_ieee"])
    dims = program.sizes({"K": 1 << 15})
    rng = np.random.default_rng(0)
    inputs = {p.name: rng.random(p.type.sizes(dims), np.float32) for p in program.inputs}
    got = KeaTarget().run(module, program, {}, dims, inputs).outputs["z"]
    want = inputs["x"].astype(np.float64) @ inputs["y"]
    assert np.abs(got - want).max() < 4e-6 * want.max()


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_rounds_each_element_once(dtype: str, reverse: bool) -> None:
    flag = " reverse" if reverse else ""
    module, program = program_of(f"""
kernel @k(%x: {dtype}[8, 512]) -> (%y: {dtype}[8, 512])
{{ parallel %i = 0 to 8, %j = 0 to 512 tile 512 {{
 %v = load %x[%i, %j] : {dtype}[512]
 %s = scan sum %v dim 0{flag}
 store %s, %y[%i, %j]
}} }}
""")
    inputs = draw(program, {}, {})
    got = KeaTarget().run(module, program, {}, {}, inputs).outputs["y"]
    x = inputs["x"].astype(np.float64)
    want = np.flip(np.flip(x, 1).cumsum(1), 1) if reverse else x.cumsum(1)
    if dtype == "bf16":
        np.testing.assert_allclose(got.astype(float), want, rtol=2.0**-8, atol=1e-5)
    else:
        np.testing.assert_array_equal(got, want.astype(np.float32))
