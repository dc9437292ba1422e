"""A target for tests of searches: interprets kernels, and times them by their tile sizes.

Each run and each time is appended to the file that ``TOY_LOG`` names: what, the structural hash,
the architecture and the knob. The architecture ``faulty`` crashes, hangs or eats memory at certain
tile sizes.
"""

from __future__ import annotations

import ctypes
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ke_ir.hashing import structural_hash
from ke_ir.interpret import interpret_program
from ke_ir.ir import For, Module, Parallel, Tuned, statements
from targets.base import (
    Availability,
    Compiled,
    Established,
    HardwareSpec,
    IllegalProgram,
    Kind,
    Presence,
    Resources,
    RunResult,
    Source,
    Timing,
)

CRASHES, HANGS, HOGS, ILLEGAL = 4, 16, 32, 2
_NO_TILES = 6.0
"""What a program without loops counts as: no target likes it."""


def tiles(module: Module) -> list[int]:
    """Tile sizes of all loops."""
    found = []
    for k in module.kernels.values():
        for s in statements(k.body):
            if isinstance(s, For | Parallel):
                loops = (s.var,) if isinstance(s, For) else s.vars
                found += [v.tile for v in loops if v.tile is not None]
    return found


class ToyTarget:
    """Best with tiles of 8 everywhere (``other``: of 32) and ``speed`` 2."""

    name = "toy"

    def __init__(self, arch: str) -> None:
        self.arch = arch

    @classmethod
    def archs(cls) -> Sequence[str]:
        return ("good", "other", "faulty")

    @property
    def spec(self) -> HardwareSpec:
        return HardwareSpec(
            arch=self.arch, name=f"Toy {self.arch}", units=1, clock_hz=1e9,
            matrix_flops={"f16": 2e12, "f32": 1e12}, vector_flops={"f32": 1e12},
            dram_bytes_per_s=1e12, cache_bytes_per_s=1e12, cache_bytes=1 << 20,
            local_bytes=1 << 16, register_bytes=1 << 16, launch_seconds=1e-6, sources=("a test",),
        )  # fmt: skip

    @property
    def emits(self) -> Sequence[str]:
        return ()

    def availability(self) -> Availability:
        return Availability(Presence.HERE, "always here")

    def start(self, module: Any, program: Any) -> Any:
        return module

    def knobs(self, program: Any, module: Any) -> Mapping[str, Sequence[int | str | bool]]:
        return {"speed": (1, 2, 4)}

    def lower(self, module: Any, program: Any, knobs: Any, dims: Any) -> Source:
        if self.arch == "faulty" and ILLEGAL in tiles(module):
            raise IllegalProgram("tiles of 2 are not possible", "a test says so")
        return Source(f"toy {program.name} speed {knobs['speed']}\n", "toy", ".toy")

    def compile(self, module: Any, program: Any, knobs: Any, dims: Any) -> Compiled:
        source = self.lower(module, program, knobs, dims)
        return Compiled(source, {program.name: Resources()}, {}, {})

    def run(self, module: Any, program: Any, knobs: Any, dims: Any, inputs: Any) -> RunResult:
        self._log("run", module, knobs)
        if self.arch == "faulty":
            self._misbehave(tiles(module))
        out = interpret_program(module, program, dims, inputs, exact=False)
        return RunResult(out, Established.SIMULATED, "by a test")

    def _misbehave(self, found: list[int]) -> None:
        if CRASHES in found:
            os.abort()
        if HANGS in found:
            ctypes.PyDLL(None).sleep(1000)
        if HOGS in found:
            hog = []
            while True:
                hog.append(np.ones(1 << 23))
                time.sleep(0.02)

    def _seconds(self, module: Any, knobs: Any) -> float:
        wanted = 5 if self.arch == "other" else 3
        away = [abs(math.log2(t) - wanted) for t in tiles(module)]
        distance = sum(away) / len(away) if away else _NO_TILES
        count = sum(1 for k in module.kernels.values() for _ in statements(k.body))
        return 1e-3 * (1 + distance + 0.01 * count) / {1: 1.0, 2: 1.25, 4: 1.1}[knobs["speed"]]

    def time(self, module: Any, program: Any, knobs: Any, dims: Any) -> Timing:
        self._log("time", module, knobs)
        return Timing(Kind.SIMULATED, self._seconds(module, knobs), "a toy", {"dram_seconds": 1.0})

    def _log(self, what: str, module: Module, knobs: Any) -> None:
        if log := os.environ.get("TOY_LOG"):
            plain = Module(tuple(i for i in module.items if not isinstance(i, Tuned)))
            with Path(log).open("a") as file:
                file.write(f"{what} {structural_hash(plain)} {self.arch} {knobs['speed']}\n")

    def estimate(self, module: Any, program: Any, knobs: Any, dims: Any) -> Timing:
        return Timing(Kind.ESTIMATED, 1.1 * self._seconds(module, {"speed": 1}), "a toy model")
