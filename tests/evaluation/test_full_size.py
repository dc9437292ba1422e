"""Numbers at the file's own sizes, on a device that a test plays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ke_gen.report import _row
from ke_ir.evaluate import evaluate_op
from ke_ir.parser import parse
from search.evaluation.numbers import Subject, check_numbers
from search.evaluation.precision import precision_of
from search.evaluation.verdict import Numbers, Outcome, StageResult, Verdict
from targets.base import Established, RunResult
from tests.evaluation.fake_target import FakeTarget

LARGE = """
op @scale(x: f32[B, D]) -> (y: f32[B, D])
dims B in 1..1048576 = 65536, D = 512
{ y[b, d] = x[b, d] * 2.0 }

kernel @scale(%x: f32[B, D]) -> (%y: f32[B, D])
{
  parallel %b = 0 to B tile 64, %d = 0 to D tile 512 {
    %v = load %x[%b, %d] : f32[64, 512]
    %w = mul %v, 2.0
    store %w, %y[%b, %d]
  }
}
"""


@dataclass
class Errors:
    max_abs_error: float = 0.0
    relative_error: float = 0.0
    allclose: bool = True
    not_finite: int = 0


@dataclass
class Check:
    numbers: Mapping[str, Errors]
    baseline_numbers: Mapping[str, Errors] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)


class Device(FakeTarget):
    """Runs by evaluating the op; its full-size check is given."""

    def __init__(self, check: Check) -> None:
        super().__init__("good")
        self.check = check
        self.asked: list[tuple[int, ...]] = []

    measure = None

    def run(self, module: Any, program: Any, knobs: Any, dims: Any, inputs: Any) -> RunResult:
        found = evaluate_op(module.ops[program.name], dims, inputs)
        outputs = {n: np.asarray(x, np.float32) for n, x in found.items()}
        return RunResult(outputs, Established.RUN, "a device")

    def check_full_size(
        self, module: Any, program: Any, knobs: Any, dims: Any, inputs: Any, baseline: Any
    ) -> Check:
        self.asked.append(inputs["x"].shape)
        return self.check


def checked(check: Check) -> tuple[StageResult, Numbers | None]:
    module = parse(LARGE)
    program, op = module.programs["scale"], module.ops["scale"]
    device = Device(check)
    subject = Subject(module, program, op, precision_of(module, program, op), {})
    result = check_numbers(subject, device, {}, static_full=False)
    assert device.asked == [(65536, 512)]
    return result


def test_a_full_size_that_passed_is_said() -> None:
    stage, numbers = checked(
        Check({"y": Errors(1e-6, 2e-8)}, {"y": Errors(3e-6, 4e-8, allclose=True)})
    )
    assert stage.outcome is Outcome.PASSED and numbers is not None
    assert numbers.reduced and numbers.at_full_size
    assert "run at reduced size B=" in stage.reason
    assert (
        "at full size against float64 on the same device: y relative error 2e-08, "
        "|error| up to 1e-06 (eager 4e-08, 3e-06)"
    ) in stage.reason
    assert numbers.full_size["y"].eager_relative_error == 4e-8
    verdict = Verdict("scale", "nvidia", "sm_90", stages=(stage,), numbers=numbers)
    assert verdict.to_dict()["numbers"]["full_size"]["y"]["max_abs_error"] == 1e-6
    assert _row(verdict)[2] == "run"


@pytest.mark.parametrize(
    "wrong",
    [
        Check({"y": Errors(1.0, 0.1, allclose=False)}, {"y": Errors(1e-6, 1e-8)}),
        Check({"y": Errors(1.0, 0.1, allclose=False)}),
        Check({"y": Errors(0.0, 0.0, False, not_finite=3)}, {"y": Errors(1.0, 1.0, False)}),
    ],
)
def test_a_wrong_full_size_fails_the_numbers(wrong: Check) -> None:
    stage, numbers = checked(wrong)
    assert stage.stage == "numbers" and stage.outcome is Outcome.FAILED and numbers is None
    assert "at full size" in stage.reason and "beyond the benchmark's tolerance" in stage.reason


def test_sizes_beyond_the_dtype_are_not_counted_as_checked() -> None:
    """As near as eager PyTorch, which is beyond the tolerance too."""
    stage, numbers = checked(Check({"y": Errors(1.0, 0.1, False)}, {"y": Errors(2.0, 0.2, False)}))
    assert stage.outcome is Outcome.PASSED and numbers is not None
    assert not numbers.at_full_size
    verdict = Verdict("scale", "nvidia", "sm_90", stages=(stage,), numbers=numbers)
    assert _row(verdict)[2] == "run (reduced)"


def test_what_cannot_be_compared_is_said() -> None:
    stage, numbers = checked(Check({}, failures={"numbers": "OutOfMemoryError: 80 GiB"}))
    assert stage.outcome is Outcome.PASSED and numbers is not None and not numbers.at_full_size
    assert "nothing to compare with at full size: OutOfMemoryError: 80 GiB" in stage.reason
