"""The device worker's logic, rehearsed on the CPU, and what the caller makes of its reply."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lowering.work import Work
from targets.base import Kind, RunFailed, ToolchainMissing
from targets.gpu import device
from targets.gpu.generated import parse
from targets.gpu.interpret import check_versions
from targets.gpu.workers import Limits
from targets.nvidia.specs import SPECS
from targets.nvidia.target import NvidiaTarget
from tests.ir.once_program import linear

Text = Callable[[str], str]
ROOT = Path(__file__).parents[2]
H100 = SPECS["sm_90"].hardware
BASELINE = "def baseline(x, y):\n    return (x.double() + y.double()).float() + {error}\n"


@pytest.fixture
def rehearse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sends requests for the device worker to the rehearsal."""
    try:
        check_versions()
    except ToolchainMissing as missing:
        pytest.skip(str(missing))

    def call(kind: str, request: dict[str, Any], limits: Limits) -> dict[str, Any]:
        assert kind == "device" and limits.memory_bytes == 0
        path = tmp_path / "request.json"
        path.write_text(json.dumps({**request, "flush_bytes": 1 << 16, "seconds": 0.01}))
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("rehearsal.py")), str(path)],
            env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        reply: dict[str, Any] = json.loads(done.stdout)
        return reply

    monkeypatch.setattr(device, "call", call)


def inputs() -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    return {name: random.standard_normal(1000, dtype=np.float32) for name in "xy"}


@pytest.mark.usefixtures("rehearse")
def test_measurement_is_complete(text: Text, tmp_path: Path) -> None:
    baseline = tmp_path / "add.py"
    baseline.write_text(BASELINE.format(error=0.5))
    outputs = parse(text("add")).outputs
    work = Work((), input_bytes=8000.0, output_bytes=4000.0)
    found = device.measure(text("add"), inputs(), outputs, work, H100, baseline)
    assert found.timing.kind is Kind.MEASURED and found.timing.on == "rehearsal (sm_90)"
    detail = found.timing.detail
    assert detail["fastest_seconds"] <= found.timing.seconds
    assert detail["p10_seconds"] <= found.timing.seconds <= detail["p90_seconds"]
    assert detail["repeats"] >= 20
    assert found.baselines.keys() == {"eager"}
    assert found.failures == {"torch.compile": "RuntimeError: no compiler"}
    assert not found.fault


@pytest.mark.usefixtures("rehearse")
def test_numbers_against_float64_beside_those_of_eager(text: Text, tmp_path: Path) -> None:
    baseline = tmp_path / "add.py"
    baseline.write_text(BASELINE.format(error=0.5))
    found = device.check_full_size(text("add"), inputs(), parse(text("add")).outputs, baseline)
    ours, theirs = found.numbers["z"], found.baseline_numbers["z"]
    assert ours.allclose and ours.relative_error < 1e-7 and ours.elements == 1000
    assert theirs.allclose is False
    assert theirs.max_abs_error == pytest.approx(0.5, rel=1e-5)
    assert found.on == "rehearsal (sm_90)" and not found.failures


@pytest.mark.usefixtures("rehearse")
def test_a_reference_that_fails_says_nothing_of_the_candidate(text: Text) -> None:
    broken = text("add").replace("def reference(x, y):", "def reference(x, y):\n    1 / 0")
    found = device.check_full_size(broken, inputs(), parse(broken).outputs)
    assert found.failures == {"numbers": "ZeroDivisionError: division by zero"}
    assert not found.numbers


@pytest.mark.usefixtures("rehearse")
def test_what_is_computed_once_is_timed_apart() -> None:
    module, program = linear()
    target, sizes = NvidiaTarget("sm_90"), program.sizes()
    text = target._lower(module, program, {}, sizes, interpreted=True).text
    random = np.random.default_rng(0)
    given = {
        p.name: random.standard_normal(p.type.sizes(dict(sizes)), np.float32)
        for p in program.inputs
    }
    work = target.work(module, program, sizes)
    found = device.measure(text, given, parse(text).outputs, work, H100)
    once = found.timing.detail["once_seconds"]
    assert isinstance(once, float) and once > 0
    assert found.baselines.keys() == {"eager"}
    estimate = target.estimate(module, program, {}, sizes)
    assert 0 < float(estimate.detail["once_seconds"]) < estimate.seconds


@pytest.mark.usefixtures("rehearse")
def test_faster_than_the_roofline_is_a_fault(text: Text) -> None:
    outputs = parse(text("add")).outputs
    work = Work((), input_bytes=1e15, output_bytes=0.0)
    found = device.measure(text("add"), inputs(), outputs, work, H100)
    assert "below the roofline" in found.fault


@pytest.mark.usefixtures("rehearse")
def test_a_baseline_of_another_form_is_noted(text: Text, tmp_path: Path) -> None:
    baseline = tmp_path / "add.py"
    baseline.write_text("def baseline(x, y):\n    return x[:7]\n")
    outputs = parse(text("add")).outputs
    found = device.check_full_size(text("add"), inputs(), outputs, baseline)
    assert "shape (7,)" in found.failures["numbers of eager"]
    assert found.numbers["z"].allclose and not found.baseline_numbers


@pytest.mark.usefixtures("rehearse")
def test_outputs_come_back(text: Text) -> None:
    given = inputs()
    outputs, on = device.run_on_device(text("add"), [(given, parse(text("add")).outputs)])
    np.testing.assert_array_equal(outputs[0]["z"], given["x"] + given["y"])
    assert on == "rehearsal (sm_90)"


def test_a_faster_member_of_the_architecture_raises_the_roofline() -> None:
    device_found = {"dram_bytes_per_s": 4.8e12, "units": 132}
    assert device._as_found(H100, device_found).dram_bytes_per_s == 4.8e12
    slower = {"dram_bytes_per_s": 2e12, "units": 114}
    assert device._as_found(H100, slower) == replace(H100, matrix_flops=dict(H100.matrix_flops))


def test_no_gpu_is_a_reason(text: Text) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(RunFailed, match="running on the GPU failed"):
        device.run_on_device(text("add"), [(inputs(), parse(text("add")).outputs)])


@pytest.mark.parametrize(
    ("got", "want", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], {"allclose": True, "max_abs_error": 0.0, "not_finite": 0}),
        ([1.0, 2.1], [1.0, 2.0], {"allclose": False, "not_finite": 0}),
        ([1.0, float("nan")], [1.0, 2.0], {"allclose": False, "not_finite": 1}),
        ([float("inf"), 1.0], [float("inf"), 1.0], {"allclose": True, "not_finite": 0}),
        ([float("inf"), 1.0], [float("-inf"), 1.0], {"allclose": False, "not_finite": 1}),
        ([float("nan")], [float("nan")], {"allclose": True, "not_finite": 0}),
    ],
)
def test_comparison(got: list[float], want: list[float], expected: dict[str, Any]) -> None:
    import torch

    from targets.gpu.compare import compare

    result = compare(torch.tensor(got), torch.tensor(want, dtype=torch.float64))
    for key, value in expected.items():
        assert result[key] == value, key
    with pytest.raises(ValueError, match="shape"):
        compare(torch.tensor(got), torch.zeros(7))


def test_overflow_of_the_outputs_dtype_is_right() -> None:
    import torch

    from targets.gpu.compare import compare

    got = torch.tensor([float("inf"), 1.0], dtype=torch.float16)
    assert compare(got, torch.tensor([1e6, 1.0], dtype=torch.float64))["not_finite"] == 0
    assert compare(got, torch.tensor([1e3, 1.0], dtype=torch.float64))["not_finite"] == 1
