"""Runs, checks and times a generated Triton file on a GPU of this machine, in a worker process."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowering.work import Work
from targets.base import HardwareSpec, Kind, RunFailed, Timing
from targets.gpu.errors import as_target_error
from targets.gpu.generated import TensorSpec
from targets.gpu.model import roofline_seconds
from targets.gpu.tensors import case_entries, read_arrays
from targets.gpu.workers import Limits, WorkerFailed, call

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]

DEVICE_LIMITS = Limits(seconds=600.0, memory_bytes=0)
LEAST_FLUSH = 256 << 20
"""Bytes to write before each call that is timed, more than any cache holds."""
_ROOFLINE_SLACK = 0.98
"""Clocks may be a little above the figure that a peak was computed from."""


@dataclass(frozen=True)
class NumbersAgainstFloat64:
    """One output against ``reference`` in float64.

    ``relative_error`` is in the Frobenius norm; ``allclose`` at the benchmark's tolerance (atol =
    rtol = 1e-4 for f32, 1e-2 for f16 and bf16, equality for integers); ``not_finite`` counts NaN or
    infinite elements that the reference does not have there.
    """

    max_abs_error: float
    relative_error: float
    allclose: bool
    not_finite: int
    elements: int


@dataclass(frozen=True)
class FullSizeCheck:
    """What one run gave against float64 on the same device, by output.

    ``numbers`` are the candidate's, ``baseline_numbers`` those of eager PyTorch on the same inputs;
    ``failures`` says why either is missing. ``on`` names the device.
    """

    numbers: Mapping[str, NumbersAgainstFloat64]
    baseline_numbers: Mapping[str, NumbersAgainstFloat64]
    on: str
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """What was measured on a device in one run, everything interleaved.

    ``baselines`` are named ``eager`` and ``torch.compile``; ``failures`` says why one is missing.
    ``fault`` is empty unless the time is below the roofline: then it is no time at all.
    """

    timing: Timing
    baselines: Mapping[str, Timing]
    failures: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""


def run_on_device(
    text: str,
    cases: Sequence[tuple[Arrays, Mapping[str, TensorSpec]]],
    limits: Limits = DEVICE_LIMITS,
) -> tuple[list[dict[str, np.ndarray[Any, Any]]], str]:
    """Run each case (inputs by name in launcher order, outputs) once; outputs and device name.

    Checks as ``interpret`` does. Raises RunFailed, ToolchainMissing.
    """
    with tempfile.TemporaryDirectory(prefix="ke-gen-") as name:
        request = _request("run", text, cases, Path(name))
        reply = _call(request, limits)
        return [read_arrays(entries) for entries in reply["outputs"]], _describe(reply["device"])


def check_full_size(
    text: str,
    inputs: Arrays,
    outputs: Mapping[str, TensorSpec],
    baseline: Path | None = None,
    limits: Limits = DEVICE_LIMITS,
) -> FullSizeCheck:
    """Run once and compare with the file's ``reference`` in float64, on the device throughout.

    ``baseline`` is a Python file with a function ``baseline`` that takes the inputs in order;
    without it ``reference`` in the inputs' own dtypes serves. Raises RunFailed, ToolchainMissing.
    """
    with tempfile.TemporaryDirectory(prefix="ke-gen-") as name:
        request = _request("check", text, [(inputs, outputs)], Path(name), baseline)
        reply = _call(request, limits)
    return FullSizeCheck(
        numbers=_numbers(reply.get("numbers", {})),
        baseline_numbers=_numbers(reply.get("baseline_numbers", {})),
        on=_describe(reply["device"]),
        failures=dict(reply["failures"]),
    )


def measure(
    text: str,
    inputs: Arrays,
    outputs: Mapping[str, TensorSpec],
    work: Work,
    hardware: HardwareSpec,
    baseline: Path | None = None,
    seconds: float = 3.0,
    limits: Limits = DEVICE_LIMITS,
) -> Measurement:
    """Time beside eager PyTorch and ``torch.compile``; ``baseline`` as in ``check_full_size``.

    What a program computes once per set of weights is no part of its time: the detail
    ``once_seconds`` has it. ``seconds`` is about how long all of it lasts. Raises RunFailed,
    ToolchainMissing.
    """
    with tempfile.TemporaryDirectory(prefix="ke-gen-") as name:
        request = _request("measure", text, [(inputs, outputs)], Path(name), baseline)
        request.update(
            flush_bytes=max(LEAST_FLUSH, 2 * hardware.cache_bytes),
            seconds=seconds,
        )
        reply = _call(request, limits)
    return _measurement(reply, work, hardware)


def _request(
    purpose: str,
    text: str,
    cases: Sequence[tuple[Arrays, Mapping[str, TensorSpec]]],
    folder: Path,
    baseline: Path | None = None,
) -> dict[str, Any]:
    return {
        "purpose": purpose,
        "text": text,
        "folder": str(folder),
        "baseline": str(baseline.resolve()) if baseline else None,
        "cases": case_entries(cases, folder),
    }


def _call(request: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    try:
        return call("device", request, limits)
    except WorkerFailed as failure:
        raise as_target_error(failure, RunFailed, "running on the GPU") from failure


def _measurement(reply: Mapping[str, Any], work: Work, hardware: HardwareSpec) -> Measurement:
    device = reply["device"]
    on = _describe(device)
    timings = {
        {"compile": "torch.compile"}.get(name, name): _timing(figures, on, device)
        for name, figures in reply["timings"].items()
    }
    candidate = timings.pop("candidate")
    if "prepare" in timings:
        once = timings.pop("prepare").seconds
        candidate = replace(candidate, detail={**candidate.detail, "once_seconds": once})
    floor = roofline_seconds(work, _as_found(hardware, device))
    fault = ""
    if candidate.seconds < _ROOFLINE_SLACK * floor:
        fault = (
            f"{candidate.seconds * 1e6:.2f} us is below the roofline of {floor * 1e6:.2f} us: "
            "the measurement or the work count is wrong"
        )
    return Measurement(
        timing=candidate,
        baselines=timings,
        failures={
            {"compile": "torch.compile"}.get(name, name): reason
            for name, reason in reply["failures"].items()
        },
        fault=fault,
    )


def _numbers(found: Mapping[str, Mapping[str, Any]]) -> dict[str, NumbersAgainstFloat64]:
    return {name: NumbersAgainstFloat64(**values) for name, values in found.items()}


def _timing(figures: Mapping[str, float], on: str, device: Mapping[str, Any]) -> Timing:
    detail: dict[str, float | str] = {
        "p10_seconds": figures["p10"],
        "p90_seconds": figures["p90"],
        "fastest_seconds": figures["fastest"],
        "repeats": figures["repeats"],
        "host_launch_seconds": figures["host_launch_seconds"],
        "statistic": "median device time, cache flushed, inputs rotated",
        "torch": device["torch"],
        "triton": device["triton"],
        "runtime": device["runtime"],
    }
    return Timing(Kind.MEASURED, figures["median"], on, detail)


def _describe(device: Mapping[str, Any]) -> str:
    return f"{device['name']} ({device['arch']})"


def _as_found(hardware: HardwareSpec, device: Mapping[str, Any]) -> HardwareSpec:
    """The peaks of the device at hand where it is a faster member of the same architecture."""
    return replace(
        hardware,
        dram_bytes_per_s=max(hardware.dram_bytes_per_s, device["dram_bytes_per_s"]),
        matrix_flops={
            name: peak * max(1.0, device["units"] / hardware.units)
            for name, peak in hardware.matrix_flops.items()
        },
    )
