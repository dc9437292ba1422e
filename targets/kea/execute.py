"""Compiles a lowered program and runs it against the native simulator."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lowering.mlir.lower import Lowered
from targets.kea import simulator

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_NAMES_FROM = 1 << 44
"""Addresses given to tensors without data; far above what a process is given."""


@dataclass(frozen=True)
class Executable:
    """A jitted program. ``kea`` and ``llvm`` are its texts before and after lowering."""

    lowered: Lowered
    engine: Any
    kea: str
    llvm: str
    parse_seconds: float
    lower_seconds: float
    jit_seconds: float


_one_at_a_time = threading.Lock()
"""The library holds one simulation a process."""
_KEPT = 8
_built: dict[str, Executable] = {}


def build(lowered: Lowered) -> Executable:
    """Parse, verify, lower and compile; the last few results are kept by their text.

    The sizes of tensors are not in the text: they are always those of ``lowered``.
    Raises MlirError, ShapeError, SimulatorMissing.
    """
    if lowered.text not in _built:
        exe = _build(lowered)
        while len(_built) >= _KEPT:
            _built.pop(next(iter(_built)))
        _built[lowered.text] = exe
    return replace(_built[lowered.text], lowered=lowered)


def _build(lowered: Lowered) -> Executable:
    from lowering.mlir import adapter, checks, runtime_calls

    started = time.perf_counter()
    module = adapter.parse(lowered.text, adapter.context())
    checks.check(module)
    kea = str(module)
    parsed = time.perf_counter()
    runtime_calls.lower_to_calls(module, simulator.code)
    adapter.lower_to_llvm(module)
    llvm = str(module)
    low = time.perf_counter()
    engine = adapter.Engine(module, [str(simulator.library_path())])
    engine.load("main")
    done = time.perf_counter()
    return Executable(lowered, engine, kea, llvm, parsed - started, low - parsed, done - low)


@dataclass(frozen=True)
class Simulated:
    """One simulated run: what it cost, and how long the simulator itself took."""

    report: simulator.Report
    wall_seconds: float


def simulate(
    exe: Executable, config: Mapping[str, float], dims: Mapping[str, int],
    arrays: Mapping[str, Array], functional: bool = True, warm: bool = False,
) -> Simulated:  # fmt: skip
    """Run ``exe`` at ``dims``. ``arrays`` holds tensors by name; outputs and temporaries are
    written in place, inputs only read.

    With ``functional`` every tensor must be there; without it only those in
    ``read_by_scalar``. Raises SimulatorFault.
    """
    with _one_at_a_time:
        return _simulate(exe, config, dims, arrays, functional, warm)


def _simulate(
    exe: Executable, config: Mapping[str, float], dims: Mapping[str, int],
    arrays: Mapping[str, Array], functional: bool, warm: bool,
) -> Simulated:  # fmt: skip
    started = time.perf_counter()
    simulator.reset(config, functional, warm)
    descriptors = []
    next_name = _NAMES_FROM
    for p in exe.lowered.tensors:
        shape = p.type.sizes(dict(dims))
        size = p.type.dtype.bytes
        for n in shape:
            size *= n
        array = arrays.get(p.name)
        if array is not None:
            address = int(array.__array_interface__["data"][0])
        else:
            address, next_name = next_name, next_name + size + 4096
        simulator.add_storage(address, size, array is not None, exe.lowered.roles[p.name])
        descriptors.append(_descriptor(address, shape))
    sizes = [dims[d] for d in exe.lowered.dims]
    pointers = [int(d.__array_interface__["data"][0]) for d in descriptors]
    exe.engine.call("main", *pointers, *sizes)
    report = simulator.report()
    return Simulated(report, time.perf_counter() - started)


def _descriptor(address: int, shape: tuple[int, ...]) -> Array:
    """A memref descriptor: pointers, offset, sizes, strides."""
    import numpy as np

    strides: list[int] = []
    step = 1
    for n in reversed(shape):
        strides.insert(0, step)
        step *= n
    return np.array([address, address, 0, *shape, *strides], np.int64)
