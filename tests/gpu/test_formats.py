"""Products in every format, from KE-IR to each architecture's binary and to interpreted numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ke_ir.interpret import interpret_program
from ke_ir.ir import Module, Program
from ke_ir.parser import parse
from targets.amd.target import AmdTarget
from targets.base import Established, Presence
from targets.gpu.target import GpuTarget
from targets.nvidia.target import NvidiaTarget

SOURCE = """
kernel @mm(%a: {given}[M, K], %b: {given}[K, N]) -> (%c: {result}[M, N])
dims M = 40, N = 24, K = 80
{{
  parallel %m = 0 to M tile 32, %n = 0 to N tile 32 {{
    %z = full {zero} : {sum}[32, 32]
    %s = for %k = 0 to K tile 32 stages 2 carry (%acc = %z) {{
      %x = load %a[%m, %k] : {given}[32, 32]
      %y = load %b[%k, %n] : {given}[32, 32]
      %d = dot %x, %y, %acc {precision}
      yield %d
    }}
    {last}
    store %o, %c[%m, %n]
  }}
}}
"""
FORMATS = [
    ("f8e4m3", "f8e4m3", "f32", "", 2.0**-4),
    ("f8e5m2", "f8e5m2", "f32", "", 2.0**-3),
    ("bf16", "bf16", "f32", "", 2.0**-8),
    ("f16", "f32", "f32", "", 2.0**-20),
    ("f32", "f32", "f32", "", 2.0**-20),
    ("f32", "f32", "f32", "precision tf32", 2.0**-10),
    ("f32", "f32", "f32", "precision tf32_even", 2.0**-10),
    ("f32", "f32", "f32", "precision bf16x3", 2.0**-15),
    ("f64", "f64", "f64", "", 2.0**-48),
    ("i8", "i32", "i32", "", 0.0),
]
TARGETS = [NvidiaTarget(arch) for arch in NvidiaTarget.archs()]
TARGETS += [AmdTarget(arch) for arch in AmdTarget.archs()]  # type: ignore[misc]


def product(given: str, result: str, sum_: str, precision: str) -> tuple[Module, Program]:
    zero = "0" if sum_ == "i32" else "0.0"
    last = f"%o = add %s, {zero}" if result == sum_ else f"%o = cast %s : {result}"
    module = parse(
        SOURCE.format(
            given=given, result=result, sum=sum_, precision=precision, zero=zero, last=last
        )
    )
    return module, module.programs["mm"]


def values(program: Program) -> dict[str, np.ndarray[Any, Any]]:
    random, made = np.random.default_rng(7), {}
    for param in program.inputs:
        shape, dtype = param.type.sizes(program.sizes()), param.type.dtype
        x = random.integers(-9, 9, shape) if dtype.is_int else random.standard_normal(shape)
        made[param.name] = x.astype(dtype.numpy())
    return made


def defaults(target: GpuTarget, program: Program, module: Module) -> dict[str, Any]:
    return {name: space[0] for name, space in target.knobs(program, module).items()}


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: " ".join(form[:4]).strip())
def test_every_format_compiles(form: tuple[str, str, str, str, float]) -> None:
    module, program = product(*form[:4])
    everywhere = form[0] in ("f8e4m3", "f64") or "tf32" in form[3]  # where architectures differ
    for target in TARGETS if everywhere else TARGETS[::3]:
        knobs = defaults(target, program, module)
        compiled = target.compile(module, program, knobs, program.sizes())
        (used,) = compiled.resources.values()
        assert used.registers and not used.exceeded, target.arch


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: " ".join(form[:4]).strip())
def test_every_format_is_right(form: tuple[str, str, str, str, float]) -> None:
    """Within rounding of the exact product, relative to its largest element: interpreted, and run
    where there is a GPU.
    """
    module, program = product(*form[:4])
    sizes, given = program.sizes(), values(program)
    exact = np.asarray(interpret_program(module, program, sizes, given)["c"], np.float64)
    for target in (NvidiaTarget("sm_80"), NvidiaTarget("sm_90"), AmdTarget("gfx942")):
        knobs = defaults(target, program, module)
        result = target.run(module, program, knobs, sizes, given)
        here = target.availability().presence is Presence.HERE
        assert result.established is (Established.RUN if here else Established.INTERPRETED)
        got = result.outputs["c"]
        assert got.dtype == program.outputs[0].type.dtype.numpy()
        error = np.abs(got.astype(np.float64) - exact).max()
        assert error <= form[4] * np.abs(exact).max(), target.arch
