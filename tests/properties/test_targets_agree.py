"""Every lowering computes what the interpreter says, on random kernels.

The tolerance is the kernel's own error bound, from its dtypes, its precisions and the length of
its sums. A run is a simulation (kea), or Triton's interpreter (nvidia, amd), which shows that the
lowering is right, not that a GPU is. Where there is a GPU it is the compiled kernel on that.

``KE_GEN_EXAMPLES=300`` tries that many new kernels on each target.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

from ke_ir.interpret import interpret_kernel
from ke_ir.printer import print_module
from targets.amd.target import AmdTarget
from targets.base import IllegalProgram, Presence, Target
from targets.gpu.target import GpuTarget
from targets.kea.target import KeaTarget
from targets.nvidia.target import NvidiaTarget
from tests.ir.executable_strategies import executable_kernels
from tests.ir.executable_values import ExecutableKernel

# Examples for each: a kernel is lowered, compiled and run at up to three sizes.
COUNTS: dict[type[Target], int] = {KeaTarget: 60, NvidiaTarget: 50, AmdTarget: 30}
WANTED = os.environ.get("KE_GEN_EXAMPLES", "")


def local(kind: type[Target]) -> Target:
    """The target for the GPU of this machine, if it has one of that vendor."""
    target = kind()
    found = target.found_arch() if isinstance(target, GpuTarget) else None
    return type(target)(found) if found in target.archs() else target  # type: ignore[call-arg]


def check(target: Target, e: ExecutableKernel) -> None:
    program = e.module.programs[e.kernel.name]
    for dims in e.sizes():
        inputs = e.inputs(dims)
        want = interpret_kernel(e.kernel, dims, inputs)
        typed = interpret_kernel(e.kernel, dims, inputs, exact=False)
        got = target.run(e.module, program, {}, dims, inputs).outputs
        for p in e.kernel.outputs:
            where = f"%{p.name} on {target.name} at {dims}\n{print_module(e.module)}"
            assert got[p.name].dtype == p.type.dtype.numpy(), where
            exact = want[p.name].astype(np.float64)
            off = np.abs(got[p.name].astype(np.float64) - exact)
            assert (off <= e.errors[p.name]).all(), f"{off.max()} > {e.errors[p.name]} in {where}"
            apart = np.abs(typed[p.name].astype(np.float64) - exact)
            assert (apart <= e.errors[p.name]).all(), f"interpreter, {where}"
            if not p.type.dtype.is_float:
                np.testing.assert_array_equal(got[p.name], typed[p.name], err_msg=where)


@pytest.mark.parametrize("kind", COUNTS)
def test_random_kernels_agree(kind: type[Target]) -> None:
    target = local(kind)
    if target.availability().presence is Presence.MISSING:
        pytest.skip(target.availability().reason)

    @settings(
        max_examples=int(WANTED or COUNTS[kind]),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=not WANTED,
    )
    @given(executable_kernels())
    def agree(e: ExecutableKernel) -> None:
        try:
            check(target, e)
        except IllegalProgram as refused:
            # Triton pads tiles to powers of two, and a padded tile has no other shape.
            assert "`reshape` of" in str(refused)
            assume(False)

    agree()
