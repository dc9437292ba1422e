"""Random kernels: what the simulator computes is what the float64 meaning says, within bounds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from ke_ir.interpret import interpret_kernel
from ke_ir.printer import print_module
from lowering.mlir import lower
from lowering.mlir.allocate import shared_plan
from targets.base import IllegalProgram
from targets.kea.target import KeaTarget
from tests.ir.executable_strategies import ExecutableKernel, executable_kernels

CALM = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(params=["own memory", "shared memory"], scope="module")
def memory(request: pytest.FixtureRequest) -> Iterator[str]:
    """Tiles each in a buffer of their own, or sharing wherever they may."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "shared memory":
            patch.setattr(lower, "plan", lambda name, body, capacity: shared_plan(body))
        yield request.param


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("knobs", [{}, {"mapping": "blocked", "prefetch": 2}], ids=str)
@CALM
@given(e=executable_kernels())
def test_simulated_numbers_are_within_the_error_bound(
    knobs: dict[str, int | str | bool], e: ExecutableKernel
) -> None:
    inputs = e.inputs()
    exact = interpret_kernel(e.kernel, None, inputs)
    program = e.module.programs[e.kernel.name]
    try:
        got = KeaTarget().run(e.module, program, knobs, program.sizes(), inputs).outputs
    except IllegalProgram as refused:
        assert "local memory" in str(refused)
        return
    for p in e.kernel.outputs:
        want = exact[p.name].astype(np.float64)
        off = np.abs(got[p.name].astype(np.float64) - want).max(initial=0.0)
        assert off <= e.errors[p.name], f"%{p.name}: {off}\n{print_module(e.module)}"
