"""The native simulator as seen from Python: its library, its configuration, its report."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ENGINES = ("dma_in", "dma_out", "dpe", "re", "se", "vector", "mlu")
LIBRARY = "libkea_sim.so"
_ROLES = ("input", "output", "temporary")
"""What a tensor's memory is for, as the library counts it."""


class SimulatorMissing(Exception):
    """The native library has not been built."""


class SimulatorFault(Exception):
    """The simulated program did what the hardware does not allow."""


@dataclass(frozen=True)
class Report:
    """What one run cost. Times are cycles of the PE clock; ``busy`` is summed over all PEs."""

    cycles: float
    commands: int
    instances: int
    issue_cycles: float
    lpddr_bytes: float
    sram_bytes: float
    macs: int
    busy: Mapping[str, float]


def library_path() -> Path:
    """Where the built library lies. Raises SimulatorMissing."""
    import targets.kea as package

    for folder in package.__path__:
        if (path := Path(folder) / LIBRARY).is_file():
            return path
    raise SimulatorMissing(f"{LIBRARY} is not beside the package")


@cache
def library() -> ctypes.CDLL:
    """The library, loaded once in a process. Raises SimulatorMissing."""
    try:
        lib = ctypes.CDLL(str(library_path()))
    except OSError as error:
        raise SimulatorMissing(str(error)) from error
    lib.kea_set.argtypes = [ctypes.c_char_p, ctypes.c_double]
    lib.kea_code.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    lib.kea_reset.argtypes = [ctypes.c_int, ctypes.c_int]
    lib.kea_storage.argtypes = [ctypes.c_int64, ctypes.c_int64, ctypes.c_int, ctypes.c_int]
    lib.kea_error.restype = ctypes.c_char_p
    lib.kea_report.argtypes = [ctypes.POINTER(ctypes.c_double)]
    return lib


def code(table: str, name: str) -> int:
    """The number by which the runtime knows ``name``. Raises KeyError."""
    got = int(library().kea_code(table.encode(), name.encode()))
    if got < 0:
        raise KeyError(f"{table} `{name}`")
    return got


def reset(config: Mapping[str, float], functional: bool, warm: bool = False) -> None:
    """Start over. ``functional`` works on data; otherwise only control values are computed.

    ``warm``: the arguments lie in SRAM already, as far as they fit, and results stay there.
    """
    lib = library()
    for name, value in config.items():
        if lib.kea_set(name.encode(), float(value)):
            raise KeyError(f"the simulator has no parameter `{name}`")
    lib.kea_reset(int(functional), int(warm))


def add_storage(address: int, size: int, has_data: bool, role: str) -> None:
    """Declare memory that tensors lie in: ``size`` bytes at ``address``.

    A program that writes to what has the ``role`` ``input`` is stopped before it does.
    """
    library().kea_storage(address, size, int(has_data), _ROLES.index(role))


def report() -> Report:
    """The cost of what ran since ``reset``. Raises SimulatorFault if the program misbehaved."""
    lib = library()
    if message := lib.kea_error():
        raise SimulatorFault(message.decode())
    raw: Any = (ctypes.c_double * 32)()
    lib.kea_report(raw)
    head, busy = raw[:7], raw[7 : 7 + len(ENGINES)]
    return Report(
        head[0], int(head[1]), int(head[2]), head[3], head[4], head[5], int(head[6]),
        dict(zip(ENGINES, busy, strict=True)),
    )  # fmt: skip
