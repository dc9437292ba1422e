"""The KEA target: MLIR of the ``kea`` dialect, run against the native simulator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

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
    RunFailed,
    RunResult,
    Source,
    Timing,
    ToolchainMissing,
    UnknownArch,
)
from targets.kea.archs import ARCHS, load

if TYPE_CHECKING:
    import numpy as np

    from ke_ir.ir import Module, Program
    from lowering.mlir.lower import Lowered
    from targets.base import Knobs
    from targets.kea.execute import Executable, Simulated

    Arrays = Mapping[str, np.ndarray[Any, Any]]

_BUILD_FIX = "reinstall ke-gen with a C++17 compiler present: `pip install .`"
_BINDINGS_FIX = "install the MLIR bindings: `pip install ke-gen[kea]`"
_SPACE: Mapping[str, Sequence[int | str | bool]] = {
    "mapping": ("dynamic", "round_robin", "blocked"),
    "prefetch": (1, 2),
}


class KeaTarget:
    """KEA-1 and KEA-2. Numbers and times are the simulator's, and are always said to be."""

    name = "kea"

    def __init__(self, arch: str = "") -> None:
        if arch and arch not in ARCHS:
            raise UnknownArch(
                f"kea has no architecture `{arch}`", fix=f"choose one of {', '.join(ARCHS)}"
            )
        self.arch = arch or ARCHS[0]

    @classmethod
    def archs(cls) -> Sequence[str]:
        return ARCHS

    @property
    def spec(self) -> HardwareSpec:
        return load(self.arch).spec

    @property
    def emits(self) -> Sequence[str]:
        return ("mlir", "llvm")

    def availability(self) -> Availability:
        from lowering.mlir import adapter
        from targets.kea import simulator

        try:
            simulator.library()
        except simulator.SimulatorMissing as missing:
            return Availability(
                Presence.MISSING, f"the native simulator is not built: {missing}", _BUILD_FIX
            )
        try:
            package = adapter.package()
        except adapter.MlirMissing as missing:
            return Availability(Presence.MISSING, f"no MLIR bindings: {missing}", _BINDINGS_FIX)
        return Availability(Presence.HERE, f"simulated, compiled with MLIR from `{package}`")

    def start(self, module: Module, program: Program) -> Module:
        """As it is."""
        return module

    def knobs(self, program: Program, module: Module) -> Mapping[str, Sequence[int | str | bool]]:
        """``mapping``: how instances go to PEs. ``prefetch``: instances a PE holds loads for."""
        return _SPACE

    def lower(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> Source:
        """MLIR text of the ``kea`` dialect. Imports no MLIR. Raises IllegalProgram."""
        return Source(self._lower(module, program, knobs, dims).text, "mlir", ".mlir")

    def compile(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> Compiled:
        exe = self._build(self._lower(module, program, knobs, dims))
        resources = {name: Resources(shared_bytes=n) for name, n in exe.lowered.local_bytes.items()}
        source = Source(exe.lowered.text, "mlir", ".mlir")
        return Compiled(source, resources, {"mlir": exe.kea, "llvm": exe.llvm}, {}, exe)

    def run(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int],
        inputs: Arrays,
    ) -> RunResult:  # fmt: skip
        """Simulate with data. Inputs stay where they are, since weights may be of gigabytes: a
        program that writes to one is stopped. Outputs are poisoned before they are written.
        """
        import numpy as np

        exe = self._build(self._lower(module, program, knobs, dims))
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        for p in exe.lowered.tensors:
            dtype, shape = p.type.dtype.numpy(), p.type.sizes(dict(dims))
            if p.name in inputs:
                arrays[p.name] = np.ascontiguousarray(inputs[p.name], dtype).reshape(shape)
            else:
                poison = np.full(int(np.prod(shape)) * dtype.itemsize, 0x7F, np.uint8)
                arrays[p.name] = poison.view(dtype).reshape(shape)
        self._simulate(exe, dims, arrays, functional=True)
        outputs = {p.name: arrays[p.name] for p in program.outputs}
        return RunResult(outputs, Established.SIMULATED, f"on the {self.spec.name} simulator")

    def time(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int],
        inputs: Arrays | None = None,
    ) -> Timing:  # fmt: skip
        """Simulated time with everything in LPDDR at the start.

        What is computed once per set of weights is simulated apart: the detail ``once_seconds``.
        Only tensors that decide addresses or loop bounds are read: they come from ``inputs``, and
        are made up where that has none (the detail ``made_up`` then names them).
        """
        from ke_ir.once import only_once, without_once

        timing = self._time(module, without_once(program), knobs, dims, inputs)
        once = only_once(program)
        if once is None:
            return timing
        apart = self._time(module, once, knobs, dims, inputs)
        return replace(timing, detail={**timing.detail, "once_seconds": apart.seconds})

    def _time(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int],
        inputs: Arrays | None,
    ) -> Timing:  # fmt: skip
        import numpy as np

        from targets.made_up import control_inputs

        lowered = self._lower(module, program, knobs, dims)
        exe = self._build(lowered)
        needed = sorted(lowered.read_by_scalar & {p.name for p in program.inputs})
        given = {n: inputs[n] for n in needed if inputs is not None and n in inputs}
        made = control_inputs(module, program, dims, [n for n in needed if n not in given])
        arrays = {**given, **made}
        for p in lowered.tensors:
            if p.name in lowered.read_by_scalar and p.name not in arrays:
                arrays[p.name] = np.zeros(p.type.sizes(dict(dims)), p.type.dtype.numpy())
        run = self._simulate(exe, dims, arrays, functional=False)
        return self._timing(exe, run, sorted(made))

    def estimate(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> Timing:
        from ke_ir.once import only_once, without_once
        from lowering.mlir.lower import check_lowers
        from targets.kea.estimate import estimate_program

        with self._refusals():
            check_lowers(module, program, _checked_knobs(knobs), dims, self.spec.local_bytes)
        arch, once = load(self.arch), only_once(program)
        parts = estimate_program(module, without_once(program), dims, arch)
        detail = dict(parts.detail)
        if once is not None:
            detail["once_seconds"] = estimate_program(module, once, dims, arch).seconds
        return Timing(Kind.ESTIMATED, parts.seconds, f"analytic model of {self.spec.name}", detail)

    # ---- steps --------------------------------------------------------------------------------

    def _lower(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> Lowered:
        from lowering.mlir.lower import lower_program

        chosen = _checked_knobs(knobs)
        with self._refusals():
            return lower_program(module, program, chosen, dims, self.spec.local_bytes)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Says why the lowering refused a program."""
        from lowering.mlir.allocate import DoesNotFit
        from lowering.mlir.kernel import Unsupported

        try:
            yield
        except DoesNotFit as big:
            raise IllegalProgram(
                f"@{big.kernel} does not fit the local memory of {self.spec.name}",
                f"it needs {big.needed:,} bytes a PE and there are {big.capacity:,}; "
                f"the largest tiles are {big.largest}",
                "use smaller tiles or fewer stages",
            ) from big
        except Unsupported as bad:
            raise IllegalProgram("not possible on kea", str(bad)) from bad

    def _build(self, lowered: Lowered) -> Executable:
        from lowering.mlir import adapter, checks
        from targets.kea import simulator
        from targets.kea.execute import build

        try:
            return build(lowered)
        except simulator.SimulatorMissing as missing:
            raise ToolchainMissing(
                "the native simulator is not built", str(missing), _BUILD_FIX
            ) from missing
        except adapter.MlirMissing as missing:
            raise ToolchainMissing("no MLIR bindings", str(missing), _BINDINGS_FIX) from missing
        except (adapter.MlirError, checks.ShapeError) as error:
            raise CompileFailed("MLIR rejected the module", str(error)) from error

    def _simulate(
        self, exe: Executable, dims: Mapping[str, int], arrays: Arrays, functional: bool
    ) -> Simulated:
        from targets.kea import simulator
        from targets.kea.execute import simulate

        try:
            return simulate(exe, load(self.arch).config, dims, arrays, functional)
        except simulator.SimulatorFault as fault:
            raise RunFailed(f"the {self.spec.name} simulator stopped", str(fault)) from fault

    def _timing(self, exe: Executable, run: Simulated, made_up: Sequence[str]) -> Timing:
        r = run.report
        pes = self.spec.units
        detail: dict[str, float | str] = {
            "cycles": r.cycles,
            **{f"{e}_busy_fraction": b / pes / r.cycles for e, b in r.busy.items()},
            "issue_busy_fraction": r.issue_cycles / pes / r.cycles,
            "lpddr_bytes": r.lpddr_bytes,
            "sram_bytes": r.sram_bytes,
            "macs": float(r.macs),
            "commands": float(r.commands),
            "instances": float(r.instances),
            "parse_seconds": exe.parse_seconds,
            "lowering_seconds": exe.lower_seconds,
            "jit_seconds": exe.jit_seconds,
            "simulator_wall_seconds": run.wall_seconds,
        }
        if made_up:
            detail["made_up"] = ", ".join(made_up)
        seconds = r.cycles / self.spec.clock_hz
        return Timing(Kind.SIMULATED, seconds, f"{self.spec.name} simulator", detail)


def _checked_knobs(knobs: Knobs) -> Any:
    from lowering.mlir.kernel import Knobs as Chosen

    known = {f.name for f in fields(Chosen)}
    for name, value in knobs.items():
        if name not in known:
            raise IllegalProgram(
                f"kea has no knob `{name}`", fix=f"choose among {', '.join(sorted(known))}"
            )
        if value not in _SPACE[name]:
            raise IllegalProgram(
                f"knob `{name}` cannot be {value}",
                fix=f"choose one of {', '.join(map(str, _SPACE[name]))}",
            )
    return Chosen(**dict(knobs))  # type: ignore[arg-type]
