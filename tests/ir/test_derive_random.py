"""Random ops derive to kernels whose float64 meaning is the op's."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, assume, given, settings

from ke_ir.evaluate import evaluate_op
from ke_ir.expr import Dim
from ke_ir.ir import Module, OpDef
from ke_ir.verify import verify
from tests.ir.derive_check import agree, derived, random_inputs
from tests.ir.op_strategies import Sample, contractions, ops
from tests.ir.recurrence_strategies import STEPS, recurrences, written_out


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(sample=ops())
def test_random_op_derives_to_its_meaning(sample: Sample) -> None:
    assume(not verify(Module((sample.op,))))
    module = derived(sample.op)
    agree(module, sample.sizes, limits=sample.limits)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sample=contractions())
def test_random_contraction_derives_to_its_meaning(sample: Sample) -> None:
    agree(derived(sample.op), sample.sizes)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(op=recurrences())
def test_random_recurrence_is_its_steps_written_out(op: OpDef) -> None:
    """In its evaluation, and in what it derives to."""
    assume(not verify(Module((op,))))
    for steps in (STEPS, 1):
        inputs = random_inputs(op, op.sizes({"T": steps}))
        plain = written_out(op, steps)
        assert not verify(Module((plain,)))
        want = evaluate_op(plain, None, inputs)
        got = evaluate_op(op, {"T": steps}, inputs)
        for p in op.outputs:
            parts = got[p.name] if p.type.shape[0] == Dim("T") else got[p.name].T
            rows = [want[f"{p.name}{s}"] for s in range(steps)]
            np.testing.assert_allclose(parts, rows, rtol=1e-11, atol=1e-12)
        agree(derived(op), {"T": steps}, inputs)
