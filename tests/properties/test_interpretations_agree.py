"""The two interpretations of a kernel agree: float64, and rounding as its types say."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings, target

from ke_ir.interpret import interpret_kernel
from ke_ir.parser import parse
from ke_ir.printer import print_module
from ke_ir.verify import verify
from tests.ir.executable_strategies import ExecutableKernel, executable_kernels

CALM = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@CALM
@given(executable_kernels())
def test_typed_interpretation_is_within_the_error_bound(e: ExecutableKernel) -> None:
    text = print_module(e.module)
    assert [d.render() for d in verify(parse(text))] == []
    inputs = e.inputs()
    exact = interpret_kernel(e.kernel, None, inputs)
    typed = interpret_kernel(e.kernel, None, inputs, exact=False)
    for p in e.kernel.outputs:
        want, got = exact[p.name], typed[p.name].astype(np.float64)
        assert np.isfinite(got).all(), f"%{p.name}\n{text}"
        off = np.abs(got - want.astype(np.float64)).max(initial=0.0)
        assert off <= e.errors[p.name], f"%{p.name}: {off} > {e.errors[p.name]}\n{text}"
        target(float(off / max(e.errors[p.name], 1e-30)), label=p.name)
