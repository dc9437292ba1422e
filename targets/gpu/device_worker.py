"""Runs, checks and times a generated file on a GPU. Runs in a worker process only.

Works with CUDA and with ROCm builds of torch, which share the ``torch.cuda`` interface.
"""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import triton

from targets.gpu.compare import compare
from targets.gpu.generated import parse
from targets.gpu.launch import run_checked
from targets.gpu.load import cache_folder, load_file, load_text
from targets.gpu.reasons import one_line
from targets.gpu.stopwatch import time_interleaved
from targets.gpu.tensors import read_tensor, torch_dtype, write_tensor

Tensors = dict[str, torch.Tensor]
Function = Callable[..., Any]

DEVICE = "cuda"


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Run the launcher on each case. What more is done with it is for ``purpose`` to say.

    Reply: ``device`` and ``failures``; for ``run`` the ``outputs`` (entries of each case); for
    ``check`` the ``numbers`` and ``baseline_numbers`` against float64; for ``measure`` ``timings``.
    """
    with device_to_itself():
        return _serve(request)


@contextmanager
def device_to_itself() -> Iterator[None]:
    """Nobody else on the device, whoever started it; its memory is given back after."""
    with _device(fcntl.LOCK_EX):
        yield


@contextmanager
def device_shared() -> Iterator[None]:
    """On the device beside others that share it too: for what is not timed."""
    with _device(fcntl.LOCK_SH):
        yield


@contextmanager
def _device(operation: int) -> Iterator[None]:
    with (cache_folder() / "device.lock").open("w") as lock:
        fcntl.flock(lock, operation)
        try:
            yield
        finally:
            torch.cuda.empty_cache()


def _serve(request: dict[str, Any]) -> dict[str, Any]:
    module = load_text(request["text"])
    launcher = getattr(module, parse(request["text"]).program)
    reply: dict[str, Any] = {"device": describe_device(), "outputs": [], "failures": {}}
    for number, case in enumerate(request["cases"]):
        inputs = {entry["name"]: read_tensor(entry).to(DEVICE) for entry in case["inputs"]}
        results = run_checked(launcher, inputs, _wanted(case), DEVICE)
        if request["purpose"] == "run":
            reply["outputs"].append(_written(request["folder"], number, case, results))
            continue
        baseline = _baseline(request["baseline"], module)
        if request["purpose"] == "check":
            reply.update(_numbers(module, baseline, inputs, results, reply["failures"]))
        else:
            del results
            torch.cuda.empty_cache()
            reply["timings"] = _timings(request, module, launcher, baseline, inputs, reply)
    return reply


def describe_device() -> dict[str, Any]:
    """Name, architecture and versions; memory bandwidth in bytes/s where torch tells it."""
    properties = torch.cuda.get_device_properties(0)
    clock = getattr(properties, "memory_clock_rate", 0)  # kHz
    width = getattr(properties, "memory_bus_width", 0)  # bits
    hip = torch.version.hip
    arch = (
        properties.gcnArchName.split(":")[0] if hip else f"sm_{properties.major}{properties.minor}"
    )
    return {
        "name": properties.name,
        "arch": arch,
        "units": properties.multi_processor_count,
        "dram_bytes_per_s": 2e3 * clock * width / 8,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "runtime": f"ROCm {hip}" if hip else f"CUDA {torch.version.cuda}",
    }


def _wanted(case: dict[str, Any]) -> list[tuple[str, torch.dtype, tuple[int, ...]]]:
    return [
        (output["name"], torch_dtype(output["dtype"]), tuple(output["shape"]))
        for output in case["outputs"]
    ]


def _written(
    folder: str, number: int, case: dict[str, Any], results: Tensors
) -> list[dict[str, Any]]:
    return [
        write_tensor(
            Path(folder) / f"out{number}_{index}.bin",
            output["name"],
            output["dtype"],
            results[output["name"]],
        )
        for index, output in enumerate(case["outputs"])
    ]


def _timings(
    request: dict[str, Any],
    module: ModuleType,
    launcher: Function,
    baseline: Function | None,
    inputs: Tensors,
    reply: dict[str, Any],
) -> dict[str, dict[str, float]]:
    """Figures of the candidate, its ``prepare`` and the baselines, all interleaved."""
    functions = {"candidate": launcher}
    if hasattr(module, "prepare"):
        functions["candidate"] = _prepared(launcher, module.prepare)
        functions["prepare"] = module.prepare
    if baseline is not None:
        functions["eager"] = baseline
        functions["compile"] = torch.compile(baseline, dynamic=False)
    # A baseline is what a user of PyTorch would run: gradients off, defaults otherwise.
    with torch.no_grad():
        timings, failures = time_interleaved(
            functions,
            list(inputs.values()),
            flush_bytes=request["flush_bytes"],
            seconds=request["seconds"],
        )
    for name in ("candidate", "prepare"):
        if name in failures:
            raise RuntimeError(f"timing the {name}: {failures[name]}")
    reply["failures"].update(failures)
    return timings


def _prepared(launcher: Function, prepare: Function) -> Function:
    """The launcher, with what is computed once per set of weights computed once per set."""
    made: dict[tuple[int, ...], Any] = {}

    def call(*inputs: torch.Tensor) -> Any:
        key = tuple(tensor.data_ptr() for tensor in inputs)
        if key not in made:
            made[key] = prepare(*inputs)
        return launcher(*inputs, prepared=made[key])

    return call


def _baseline(path: str | None, module: ModuleType) -> Function | None:
    """``baseline`` of the user's file (its folder last on the path), else ``reference``.

    A program without an op has no ``reference``.
    """
    if path is None:
        reference: Function | None = getattr(module, "reference", None)
        return reference
    folder = str(Path(path).parent)
    if folder not in sys.path:
        sys.path.append(folder)
    user = load_file(Path(path), "ke_gen_user_baseline")
    if not hasattr(user, "baseline"):
        raise ValueError(f"{path} has no function `baseline`")
    baseline: Function = user.baseline
    return baseline


def _numbers(
    module: ModuleType,
    baseline: Function | None,
    inputs: Tensors,
    results: Tensors,
    failures: dict[str, str],
) -> dict[str, Any]:
    """Candidate and baseline against ``reference`` in float64, output by output.

    What cannot be compared (no memory for float64, a baseline of another form) is a failure noted:
    it says nothing of the candidate.
    """
    exact = [
        tensor.to(torch.float64) if tensor.dtype.is_floating_point else tensor
        for tensor in inputs.values()
    ]
    reply: dict[str, Any] = {}
    try:
        with torch.no_grad():
            expected = as_tuple(module.reference(*exact))
    except Exception as error:
        failures["numbers"] = one_line(error)
        return reply
    reply["numbers"] = _compared(results, expected)
    if baseline is None:
        return reply
    try:
        with torch.no_grad():
            rivals = as_tuple(baseline(*inputs.values()))
        named = dict(zip(results, rivals, strict=True))
        reply["baseline_numbers"] = _compared(named, expected)
    except Exception as error:
        failures["numbers of eager"] = one_line(error)
    return reply


def _compared(got: Tensors, expected: tuple[torch.Tensor, ...]) -> dict[str, Any]:
    if len(expected) != len(got):
        raise ValueError(f"reference returned {len(expected)} outputs, expected {len(got)}")
    return {
        name: compare(tensor, want)
        for (name, tensor), want in zip(got.items(), expected, strict=True)
    }


def as_tuple(value: Any) -> tuple[torch.Tensor, ...]:
    """One tensor or several, as a tuple."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
