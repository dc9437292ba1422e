"""The target: availability, compilation by the system's C compiler, runs and times on one core."""

from __future__ import annotations

import ctypes
import math
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets.base import (
    Availability,
    Compiled,
    CompileFailed,
    Established,
    HardwareSpec,
    Kind,
    Presence,
    Resources,
    RunFailed,
    RunResult,
    Source,
    Timing,
    ToolchainMissing,
)

if TYPE_CHECKING:
    import numpy as np

    from ke_ir.ir import Module, Program
    from targets.base import Knobs

    Arrays = Mapping[str, np.ndarray[Any, Any]]

SPEC = HardwareSpec(
    arch="host",
    name="one CPU core",
    units=1,
    clock_hz=6e9,
    matrix_flops={"f32": 384e9, "f64": 192e9},
    vector_flops={"f32": 384e9, "f64": 192e9, "i32": 384e9},
    dram_bytes_per_s=102.4e9,
    cache_bytes_per_s=768e9,
    cache_bytes=1 << 20,
    local_bytes=256 << 20,
    register_bytes=2048,
    launch_seconds=1e-7,
    sources=(
        "bounds that no core of today exceeds, since the floor must hold on any of them: 6 GHz, "
        "two 512-bit fused multiply-adds a cycle (Intel 64 and IA-32 Architectures Optimization "
        "Reference Manual)",
        "two channels of DDR5-6400 (JEDEC JESD79-5); one core draws no more (assumed)",
        "256 MiB of tiles: this target's own limit",
    ),
)
_FIX = "install a C compiler: `apt-get install gcc`, or name one in CC"
_SECONDS = 1.0
"""How long the runs of one timing take together, with the flushes between them."""
_GUARD_BYTES = 4096
_FLUSH_BYTES = 64 << 20
"""More than the caches hold that a core has to itself."""


class C99Target:
    """One core of this machine. What runs is what was compiled, so numbers are ``run``."""

    name = "c99"

    def __init__(self, arch: str) -> None:
        self.arch = arch

    @classmethod
    def archs(cls) -> Sequence[str]:
        return ("host",)

    @property
    def spec(self) -> HardwareSpec:
        return SPEC

    @property
    def emits(self) -> Sequence[str]:
        return ("asm",)

    def availability(self) -> Availability:
        found = shutil.which(_compiler())
        if found is None:
            return Availability(Presence.MISSING, f"there is no C compiler `{_compiler()}`", _FIX)
        return Availability(Presence.HERE, f"{processor()}, code by {found}")

    def start(self, module: Module, program: Program) -> Module:
        """As it is."""
        return module

    def knobs(self, program: Program, module: Module) -> Mapping[str, Sequence[int | str | bool]]:
        """``optimise``: the compiler's -O. ``native``: use all instructions of this machine."""
        return {"optimise": (2, 3), "native": (False, True)}

    def lower(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> Source:
        from ke_gen_c99.lower import lower

        return Source(lower(module, program, dims, SPEC.local_bytes).text, "c", ".c")

    def compile(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> Compiled:
        from ke_gen_c99.lower import lower

        lowered = lower(module, program, dims, SPEC.local_bytes)
        built = build(lowered.text, flags(knobs))
        resources = {n: Resources(shared_bytes=size) for n, size in lowered.tile_bytes.items()}
        source = Source(lowered.text, "c", ".c")
        return Compiled(source, resources, {"asm": built.asm}, {program.name: built.binary})

    def run(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int],
        inputs: Arrays,
    ) -> RunResult:  # fmt: skip
        call = Call(self.lower(module, program, knobs, dims).text, program, knobs, dims, inputs)
        call("ke_once")
        call("ke_run")
        outputs = {p.name: call.arrays[p.name] for p in program.outputs}
        return RunResult(outputs, Established.RUN, processor())

    def time(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> Timing:
        """The median of runs, each after the cache was flushed, on made-up inputs.

        Integers may decide how much there is to do, so that a remark names them.
        """
        from targets.made_up import made_up_inputs

        inputs = made_up_inputs(module, program, dims)
        call = Call(self.lower(module, program, knobs, dims).text, program, knobs, dims, inputs)
        once = call("ke_once")
        runs: list[float] = []
        deadline = time.perf_counter() + _SECONDS
        while not runs or time.perf_counter() < deadline:
            flush_cache()
            runs.append(call("ke_run"))
        detail: dict[str, float | str] = {
            "runs": len(runs), "fastest_seconds": min(runs), "slowest_seconds": max(runs),
            "once_seconds": once,
        }  # fmt: skip
        if integers := [p.name for p in program.inputs if p.type.dtype.is_int]:
            detail["made_up"] = ", ".join(integers)
        return Timing(Kind.MEASURED, statistics.median(runs), processor(), detail)

    def estimate(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> Timing:
        """Arithmetic at peak, then memory at peak: one core does not overlap them here."""
        from lowering.work import analyse_program

        seconds = 0.0
        for launch, times in analyse_program(module, program, dims, pad=False).launches:
            flops = sum(launch.matrix_flops.values()) + sum(launch.vector_ops.values())
            moved = sum(launch.reads.values()) + sum(launch.writes.values())
            once = flops / SPEC.vector_flops["f32"] + moved / SPEC.dram_bytes_per_s
            seconds += times * (once + SPEC.launch_seconds)
        return Timing(Kind.ESTIMATED, seconds, f"peaks of {SPEC.name}")


class Call:
    """A compiled program with its arguments: inputs copied, all else poisoned, all in guards."""

    def __init__(
        self, text: str, program: Program, knobs: Knobs, dims: Mapping[str, int], inputs: Arrays
    ) -> None:
        import numpy as np

        from ke_gen_c99.lower import arguments

        self.library = build(text, flags(knobs)).library
        self.sizes = [ctypes.c_int64(dims[d.name]) for d in program.dims]
        self.arrays: dict[str, np.ndarray[Any, Any]] = {}
        self.memory: dict[str, np.ndarray[Any, Any]] = {}
        for name, t in arguments(program).items():
            dtype, shape = t.dtype.numpy(), t.sizes(dict(dims))
            size = math.prod(shape) * dtype.itemsize
            # All ones is NaN in every floating type: what is read outside, or not written, shows.
            memory = np.full(size + 2 * _GUARD_BYTES, 0xFF, np.uint8)
            inside = slice(_GUARD_BYTES, _GUARD_BYTES + size)
            self.arrays[name] = memory[inside].view(dtype).reshape(shape)
            self.memory[name] = memory
            if name in inputs:
                self.arrays[name][...] = inputs[name]

    def __call__(self, function: str) -> float:
        """Seconds that it took. Raises RunFailed when it stored outside a tensor."""
        pointers = [ctypes.c_void_p(x.ctypes.data) for x in self.arrays.values()]
        run = self.library[function]
        begin = time.perf_counter()
        run(*pointers, *self.sizes)
        seconds = time.perf_counter() - begin
        for name, memory in self.memory.items():
            ends = (memory[:_GUARD_BYTES], memory[-_GUARD_BYTES:])
            if any((end != 0xFF).any() for end in ends):
                raise RunFailed(f"the kernel stored outside {name}", "a mask is missing")
        return seconds


def flags(knobs: Knobs) -> tuple[str, ...]:
    """What the knobs tell the compiler. -fwrapv, because integers of KE-IR wrap."""
    native = ("-march=native",) if knobs["native"] else ()
    return ("-std=c99", "-fwrapv", "-fPIC", f"-O{knobs['optimise']}", *native)


@dataclass(frozen=True)
class Built:
    """A shared library, loaded, with its bytes and the assembly it was made from."""

    library: ctypes.CDLL
    binary: bytes
    asm: str


@cache
def build(text: str, options: tuple[str, ...]) -> Built:
    """Compile and load; once for each text in a process, so that other sizes cost nothing.

    Raises CompileFailed, ToolchainMissing.
    """
    with tempfile.TemporaryDirectory(prefix="ke-gen-c99-") as folder:
        source, asm, library = (Path(folder, f"kernel{end}") for end in (".c", ".s", ".so"))
        source.write_text(text, encoding="utf-8")
        _cc(*options, "-S", str(source), "-o", str(asm))
        _cc("-shared", str(asm), "-o", str(library), "-lm")
        # Loaded, it no longer needs its file.
        return Built(
            ctypes.CDLL(str(library)), library.read_bytes(), asm.read_text(encoding="utf-8")
        )


def _cc(*arguments: str) -> None:
    try:
        done = subprocess.run([_compiler(), *arguments], capture_output=True, text=True)
    except FileNotFoundError as missing:
        raise ToolchainMissing(f"there is no C compiler `{_compiler()}`", fix=_FIX) from missing
    if done.returncode:
        raise CompileFailed(f"{_compiler()} rejected the C", done.stderr.strip()[:2000])


def _compiler() -> str:
    return os.environ.get("CC", "cc")


@cache
def processor() -> str:
    """The name of this machine's CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"one core of {next(names, 'this CPU')}"


def flush_cache() -> None:
    """Read and write so much memory that nothing of the last run is left nearby."""
    _flush_buffer()[...] += 1


@cache
def _flush_buffer() -> np.ndarray[Any, Any]:
    import numpy as np

    return np.zeros(_FLUSH_BYTES, np.uint8)
