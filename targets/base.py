"""What every target is: the protocol, the hardware description and the results it returns.

A target turns one KE-IR program into something that runs (or could run) on one kind of hardware.
It is found through the entry-point group ``ke_gen.targets`` and may live in another package.
Nothing here imports a toolchain; targets import theirs inside the methods that need them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from ke_ir.ir import Module, Program

Knobs = Mapping[str, int | str | bool]
"""Target-only choices (warps, waves per EU, PE mapping ...), as kept in a ``tuned`` block."""


class TargetError(Exception):
    """A target refused a program. ``what`` happened, ``why``, and ``fix``: what the user can do."""

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(": ".join(part for part in (what, why) if part))
        self.what, self.why, self.fix = what, why, fix


class UnknownArch(TargetError):
    """The target has no such architecture."""


class IllegalProgram(TargetError):
    """The program is valid KE-IR, but this target's limits or features do not allow it."""


class CompileFailed(TargetError):
    """The target's own compiler rejected what the lowering produced."""


class ToolchainMissing(TargetError):
    """The toolchain that the target needs is not installed."""


class RunFailed(TargetError):
    """The compiled kernel crashed, hung or could not be started."""


class Kind(StrEnum):
    """How a time was come by."""

    MEASURED = "measured"
    SIMULATED = "simulated"
    ESTIMATED = "estimated"


@dataclass(frozen=True)
class Timing:
    """A time that always says how it was come by.

    ``seconds`` is one execution of the whole program; ``on`` names the device, simulator or model.
    ``detail`` holds the parts (engine busy times, bytes, spread), each in the unit its name says.
    """

    kind: Kind
    seconds: float
    on: str
    detail: Mapping[str, float | str] = field(default_factory=dict)


class Presence(StrEnum):
    """What a target can do on this machine."""

    HERE = "here"
    COMPILE_ONLY = "compile-only"
    MISSING = "missing"


@dataclass(frozen=True)
class Availability:
    """``presence`` with its ``reason`` and, unless it is all here, what to install (``fix``)."""

    presence: Presence
    reason: str
    fix: str = ""


@dataclass(frozen=True)
class HardwareSpec:
    """A frozen hardware description. Peaks are dense, per second, for one device.

    ``matrix_flops`` maps a format (``bf16 f16 f8 i8 tf32 f32 f64``) to FLOP/s of the matrix unit;
    ``vector_flops`` likewise for the vector unit. Bandwidths are bytes/s, memories bytes,
    ``clock_hz`` Hz, ``launch_seconds`` the cost of starting one kernel.
    """

    arch: str
    name: str
    units: int
    clock_hz: float
    matrix_flops: Mapping[str, float]
    vector_flops: Mapping[str, float]
    dram_bytes_per_s: float
    cache_bytes_per_s: float
    cache_bytes: int
    local_bytes: int
    register_bytes: int
    launch_seconds: float
    sources: Sequence[str]


class Established(StrEnum):
    """How a verdict on numbers was established. ``RUN`` is the hardware itself."""

    RUN = "run"
    SIMULATED = "simulated"
    EMULATED = "emulated"
    INTERPRETED = "interpreted"


@dataclass(frozen=True)
class Source:
    """What a lowering produced: one text, its language, and its file suffix."""

    text: str
    language: str
    suffix: str


@dataclass(frozen=True)
class Resources:
    """What the compiler says one kernel uses. None means that the toolchain does not report it.

    ``shared_bytes`` is shared memory, LDS or local memory; ``occupancy`` the resident fraction
    of the unit's threads (0..1); ``exceeded`` names each limit that is broken, with both figures.
    """

    registers: int | None = None
    spills: int | None = None
    shared_bytes: int | None = None
    occupancy: float | None = None
    exceeded: Sequence[str] = ()


@dataclass(frozen=True)
class Compiled:
    """A compiled program: per-kernel resources and the texts of the compiler's stages.

    ``stages`` maps an ``--emit`` name (``ttir``, ``asm``, ``mlir``, ``llvm``) to its text,
    ``binary`` holds bytes by kernel name, ``handle`` is the target's own.
    """

    source: Source
    resources: Mapping[str, Resources]
    stages: Mapping[str, str]
    binary: Mapping[str, bytes]
    handle: Any = None


@dataclass(frozen=True)
class RunResult:
    """Outputs by name, in their declared dtypes (ml_dtypes for bf16/fp8), and how they came."""

    outputs: Mapping[str, np.ndarray[Any, Any]]
    established: Established
    note: str = ""


@runtime_checkable
class Target(Protocol):
    """The protocol. ``arch`` is one of ``archs``; ``dims`` binds every dim name to its size."""

    name: str
    arch: str

    @classmethod
    def archs(cls) -> Sequence[str]:
        """Architectures, the default one first."""
        ...

    @property
    def spec(self) -> HardwareSpec: ...

    @property
    def emits(self) -> Sequence[str]:
        """Names for ``--emit`` beyond ``ir`` and ``source``."""
        ...

    def availability(self) -> Availability: ...

    def start(self, module: Module, program: Program) -> Module:
        """The module with a derived program changed, by rewrites, to what is known to be good here.

        The module as it is where nothing is known. Its cost is that of the rewrites alone.
        """
        ...

    def knobs(self, program: Program, module: Module) -> Mapping[str, Sequence[int | str | bool]]:
        """The knob space: each knob with its legal values, the default first."""
        ...

    def lower(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> Source:
        """Generate source. Raises IllegalProgram. Imports no toolchain where that can be."""
        ...

    def compile(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> Compiled:
        """Lower and compile for real. Raises IllegalProgram, CompileFailed, ToolchainMissing."""
        ...

    def run(
        self,
        module: Module,
        program: Program,
        knobs: Knobs,
        dims: Mapping[str, int],
        inputs: Mapping[str, np.ndarray[Any, Any]],
    ) -> RunResult:
        """Execute on the device, the simulator, or the best stand-in there is, and say which."""
        ...

    def time(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> Timing:
        """Time at ``dims``: measured, simulated or estimated. Raises as ``run`` does."""
        ...

    def estimate(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> Timing:
        """The analytic model, kind ESTIMATED; nothing is compiled.

        Raises IllegalProgram where that can be told already, so that a search proposes it no more.
        """
        ...
