"""A target of somebody else's, for tests. Its architecture says how it (mis)behaves."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ke_ir.interpret import interpret_program
from targets.base import (
    Availability,
    Compiled,
    CompileFailed,
    Established,
    HardwareSpec,
    IllegalProgram,
    Kind,
    Presence,
    Resources,
    RunResult,
    Source,
    Timing,
    ToolchainMissing,
)


class FakeTarget:
    """Simulates by interpreting the kernel as typed; each arch spoils one thing."""

    name = "fake"

    def __init__(self, arch: str) -> None:
        self.arch = arch

    @classmethod
    def archs(cls) -> Sequence[str]:
        return (
            "good", "missing", "no-tool", "illegal", "no-compile", "too-big", "crash", "hang",
            "memory", "raises", "wrong", "constant", "spoils", "unwritten", "too-fast",
        )  # fmt: skip

    @property
    def spec(self) -> HardwareSpec:
        return HardwareSpec(
            arch=self.arch, name=f"Fake {self.arch}", units=1, clock_hz=1e9,
            matrix_flops={"f16": 2e12, "bf16": 2e12, "f32": 1e12}, vector_flops={"f32": 1e12},
            dram_bytes_per_s=1e9, cache_bytes_per_s=1e10, cache_bytes=1 << 20,
            local_bytes=1 << 16, register_bytes=1 << 16, launch_seconds=1e-6, sources=("a test",),
        )  # fmt: skip

    @property
    def emits(self) -> Sequence[str]:
        return ("asm",)

    def availability(self) -> Availability:
        if self.arch == "missing":
            return Availability(Presence.MISSING, "no fake here", "pip install fake")
        return Availability(Presence.HERE, "always here")

    def start(self, module: Any, program: Any) -> Any:
        return module

    def knobs(self, program: Any, module: Any) -> Mapping[str, Sequence[int | str | bool]]:
        return {"speed": (1, 2, 4)}

    def lower(self, module: Any, program: Any, knobs: Any, dims: Any) -> Source:
        if self.arch == "illegal":
            raise IllegalProgram("local memory exceeded", "needs 2 MiB of 64 KiB", "smaller tiles")
        return Source(f"fake {program.name} speed {knobs['speed']}", "fake", ".fake")

    def compile(self, module: Any, program: Any, knobs: Any, dims: Any) -> Compiled:
        if self.arch == "no-compile":
            raise CompileFailed("fakecc failed", "line 1: unknown mnemonic")
        if self.arch == "no-tool":
            raise ToolchainMissing("fakecc is not installed", "", "apt install fakecc")
        if self.arch == "crash":
            os.abort()
        exceeded = ("shared memory 300 KiB of 227 KiB",) if self.arch == "too-big" else ()
        used = Resources(registers=8, shared_bytes=1024, exceeded=exceeded)
        source = self.lower(module, program, knobs, dims)
        return Compiled(source, {program.name: used}, {"asm": "nop\n"}, {})

    def run(self, module: Any, program: Any, knobs: Any, dims: Any, inputs: Any) -> RunResult:
        if self.arch == "hang":
            ctypes.PyDLL(None).sleep(1000)  # holds the interpreter's lock: only a kill helps
        if self.arch == "memory":
            hog = []
            for _ in range(64):
                hog.append(np.ones(1 << 25))
                time.sleep(0.02)
        if self.arch == "raises":
            raise KeyError("a fault of the target's own")
        out = interpret_program(module, program, dims, inputs, exact=False)
        for x in out.values():
            flat = x.reshape(-1)
            if self.arch == "wrong":
                flat[-1] += 1
            if self.arch == "constant":
                flat[:] = 0
            if self.arch == "unwritten":
                flat[-1:] = np.nan
        if self.arch == "spoils":
            next(iter(inputs.values())).reshape(-1)[0] += 1
        return RunResult(out, Established.SIMULATED, "by a test")

    def time(self, module: Any, program: Any, knobs: Any, dims: Any) -> Timing:
        return Timing(Kind.SIMULATED, 1e-12 if self.arch == "too-fast" else 1.0, "a fake")

    def estimate(self, module: Any, program: Any, knobs: Any, dims: Any) -> Timing:
        return Timing(Kind.ESTIMATED, 1.0, "a fake model")
