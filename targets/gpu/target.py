"""What the NVIDIA and AMD targets share: all of the protocol but their own facts and knobs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets.base import (
    Availability,
    Compiled,
    Established,
    HardwareSpec,
    IllegalProgram,
    Knobs,
    Presence,
    RunFailed,
    RunResult,
    Source,
    Timing,
    UnknownArch,
)
from targets.gpu import probe
from targets.gpu.generated import Generated, parse
from targets.gpu.spec import GpuSpec

if TYPE_CHECKING:
    import numpy as np

    from ke_ir.ir import Module, Program
    from lowering.triton.traits import Traits
    from lowering.work import Work
    from targets.gpu.device import FullSizeCheck, Measurement

    Arrays = Mapping[str, np.ndarray[Any, Any]]

Space = dict[str, Sequence[int | str | bool]]


class GpuTarget(ABC):
    """A GPU behind the protocol of ``targets.base.Target``, through Triton.

    Subclasses give ``name``, the specs by architecture, the traits of the lowering, their own
    knobs, and how to find a device. Methods raise what the protocol says.
    """

    name: str
    specs: Mapping[str, GpuSpec]
    runtime: str
    vendor: str

    def __init__(self, arch: str = "") -> None:
        arch = arch or self.archs()[0]
        if arch not in self.specs:
            known = ", ".join(self.specs)
            raise UnknownArch(
                f"target `{self.name}` has no architecture `{arch}`", fix=f"one of {known}"
            )
        self.arch = arch

    @classmethod
    def archs(cls) -> Sequence[str]:
        """Architectures, the default one first."""
        return tuple(cls.specs)

    @property
    def spec(self) -> HardwareSpec:
        """The device modelled."""
        return self.specs[self.arch].hardware

    @property
    def emits(self) -> Sequence[str]:
        """Stages of the compiler: ``ttir ttgir llir asm``."""
        from targets.gpu.compile import STAGES

        return STAGES

    @abstractmethod
    def traits(self) -> Traits:
        """What this architecture accepts in the generated text."""

    @abstractmethod
    def own_knobs(self) -> Space:
        """Knobs that only this vendor has; the default first, 0 leaving it to the compiler."""

    @abstractmethod
    def found_arch(self) -> str | None:
        """Architecture of the vendor's first GPU on this machine, or None."""

    def availability(self) -> Availability:
        """Whether kernels run here, or are compiled only, or not even that; and why."""
        if not probe.installed("triton"):
            return Availability(
                Presence.MISSING, "triton is not installed", "install ke-gen's gpu extra"
            )
        found = self.found_arch()
        built = probe.torch_runtime()
        if found is None:
            reason = f"no {self.vendor} GPU here"
            fix = f"run on a machine with one of {', '.join(self.specs)}"
        elif built != self.runtime:
            kind = "not installed" if built is None else f"built for {built}"
            reason = f"there is a {found} GPU, but torch is {kind}"
            fix = f"install a torch built for {self.runtime} (pytorch.org)"
        elif found != self.arch:
            reason = f"the GPU here is {found}, not {self.arch}"
            fix = f"choose {found}" if found in self.specs else ""
        else:
            return Availability(Presence.HERE, f"{found} GPU, Triton and torch")
        if built is None:
            reason += "; without torch numbers cannot be interpreted either"
        return Availability(Presence.COMPILE_ONLY, reason, fix)

    def start(self, module: Module, program: Program) -> Module:
        """As it is."""
        return module

    def knobs(self, program: Program, module: Module) -> Space:
        """``num_warps`` (0: by each kernel's tiles), ``num_stages`` (0: the loop's ``stages``) and
        the vendor's own."""
        return {
            "num_warps": (0, 1, 2, 4, 8, 16),
            "num_stages": (0, 1, 2, 3, 4, 5),
            **self.own_knobs(),
        }

    def lower(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> Source:
        """The generated Triton file (``docs/generated-triton.md``). Raises IllegalProgram."""
        return self._lower(module, program, knobs, dims, interpreted=False)

    def _lower(
        self,
        module: Module,
        program: Program,
        knobs: Knobs,
        dims: Mapping[str, int],
        interpreted: bool,
    ) -> Source:
        from lowering.triton import TritonOptions, Unsupported, lower

        options = TritonOptions(
            traits=self.traits(),
            interpret=interpreted,
            knobs={
                # Said explicitly, because its default differs between Triton versions.
                "enable_fp_fusion": True,
                # 0 leaves a knob to the kernel or the compiler.
                **{name: value for name, value in knobs.items() if value != 0},
            },
            units=self.spec.units,
            warp_size=self.specs[self.arch].warp_size,
        )
        try:
            text = lower(module, program, dims, options)
        except Unsupported as refused:
            raise IllegalProgram(refused.what, refused.why, refused.fix) from refused
        return Source(text, "python", ".py")

    def compile(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> Compiled:
        """Compile with Triton for this architecture; no GPU is needed.

        ``resources[...].exceeded`` names limits that the kernel breaks; the compiler does not.
        """
        from targets.gpu.compile import compile_source

        source = self.lower(module, program, knobs, dims)
        return compile_source(source, self.specs[self.arch])

    def run(
        self,
        module: Module,
        program: Program,
        knobs: Knobs,
        dims: Mapping[str, int],
        inputs: Arrays,
    ) -> RunResult:
        """On the GPU where there is one, else through Triton's interpreter; the result says."""
        from targets.gpu.device import run_on_device
        from targets.gpu.errors import missing_module
        from targets.gpu.interpret import interpret

        here = self.availability().presence is Presence.HERE
        source = self._lower(module, program, knobs, dims, interpreted=not here)
        generated = parse(source.text)
        case = (_ordered(generated, inputs), generated.outputs)
        if here:
            outputs, device = run_on_device(source.text, [case])
            return RunResult(outputs[0], Established.RUN, device)
        for module_name in ("triton", "torch"):
            if not probe.installed(module_name):
                raise missing_module(module_name)
        outputs = interpret(source.text, [case])
        note = "Triton's interpreter on the CPU; the compiled kernel was not run"
        return RunResult(outputs[0], Established.INTERPRETED, note)

    def time(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> Timing:
        """Measured on random inputs where there is a GPU, else estimated.

        A program with integer inputs (which may be indices) is measured through ``measure`` only.
        """
        if self.availability().presence is not Presence.HERE:
            return self.estimate(module, program, knobs, dims)
        found = self.measure(module, program, knobs, dims, _random_inputs(program, dims))
        if found.fault:
            raise RunFailed("the measured time is impossible", found.fault)
        return found.timing

    def check_full_size(
        self,
        module: Module,
        program: Program,
        knobs: Knobs,
        dims: Mapping[str, int],
        inputs: Arrays,
        baseline: Path | None = None,
    ) -> FullSizeCheck:
        """On the GPU of this machine: one run against float64, beside eager PyTorch's errors.

        ``baseline``: a Python file with a function ``baseline``. Raises RunFailed when there is no
        such GPU.
        """
        from targets.gpu.device import check_full_size

        generated, text = self._for_device(module, program, knobs, dims)
        return check_full_size(text, _ordered(generated, inputs), generated.outputs, baseline)

    def measure(
        self,
        module: Module,
        program: Program,
        knobs: Knobs,
        dims: Mapping[str, int],
        inputs: Arrays,
        baseline: Path | None = None,
        seconds: float = 3.0,
    ) -> Measurement:
        """On the GPU of this machine: the time, with PyTorch's beside it.

        ``baseline``: a Python file with a function ``baseline``; ``seconds``: how long the timed
        part may last. Raises RunFailed when there is no such GPU.
        """
        from targets.gpu.device import measure

        generated, text = self._for_device(module, program, knobs, dims)
        return measure(
            text,
            _ordered(generated, inputs),
            generated.outputs,
            self.work(module, program, dims, pad=False),
            self.spec,
            baseline,
            seconds,
        )

    def _for_device(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> tuple[Generated, str]:
        found = self.availability()
        if found.presence is not Presence.HERE:
            raise RunFailed(f"nothing can be measured on {self.arch}", found.reason, found.fix)
        text = self.lower(module, program, knobs, dims).text
        return parse(text), text

    def estimate(
        self, module: Module, program: Program, knobs: Knobs, dims: Mapping[str, int]
    ) -> Timing:
        """The analytic model at ``dims``; knobs play no part in it."""
        from ke_ir.once import only_once
        from targets.gpu.model import estimate

        timing = estimate(self.work(module, program, dims), self.spec)
        if (part := only_once(program)) is None:
            return timing
        once = estimate(self.work(module, part, dims), self.spec)
        return replace(timing, detail={**timing.detail, "once_seconds": once.seconds})

    def work(
        self, module: Module, program: Program, dims: Mapping[str, int], pad: bool = True
    ) -> Work:
        """Operations and bytes of each execution of the program, without what is computed once;
        ``pad`` as Triton pads its tiles.
        """
        from ke_ir.once import without_once
        from lowering.work import analyse_program

        return analyse_program(module, without_once(program), dims, pad)


def _ordered(generated: Generated, inputs: Arrays) -> Arrays:
    return {name: inputs[name] for name in generated.inputs}


def _random_inputs(program: Program, dims: Mapping[str, int]) -> Arrays:
    import numpy as np

    random = np.random.default_rng(0)
    made = {}
    for param in program.inputs:
        dtype, shape = param.type.dtype, param.type.sizes(dict(dims))
        if dtype.is_int:
            raise RunFailed(
                f"@{program.name} cannot be timed on made-up inputs",
                f"%{param.name} holds integers, which may be indices",
                "evaluate it with its op, which says what they mean",
            )
        values = random.standard_normal(shape, dtype=np.float32)
        made[param.name] = values > 0 if dtype.is_bool else values.astype(dtype.numpy())
    return made
