"""Random ops derive to kernels whose float64 meaning is the op's."""

from __future__ import annotations

from hypothesis import HealthCheck, assume, given, settings

from ke_ir.ir import Module
from ke_ir.verify import verify
from tests.ir.derive_check import agree, derived
from tests.ir.op_strategies import Sample, contractions, ops


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
