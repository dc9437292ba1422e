"""NVIDIA GPUs through Triton: sm_90 (H100), sm_80 (A100), sm_100 (B200)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ke_ir.ops.shape import PRECISIONS
from targets.gpu import probe
from targets.gpu.target import GpuTarget, Space
from targets.nvidia.specs import SPECS

if TYPE_CHECKING:
    from ke_ir.ir import Module, Program
    from lowering.triton.traits import Traits


class NvidiaTarget(GpuTarget):
    """The ``nvidia`` target."""

    name = "nvidia"
    vendor = "NVIDIA"
    runtime = "cuda"
    specs = SPECS

    def traits(self) -> Traits:
        """fp8 as Triton 3.7 accepts it: sm_80 has no f8e4m3."""
        from lowering.triton.traits import Traits

        fp8 = {"f8e5m2"} if self.arch == "sm_80" else {"f8e4m3", "f8e5m2"}
        return Traits(
            backend="cuda",
            arch=self.arch,
            fp8_types=frozenset(fp8),
            dot_precisions=frozenset(PRECISIONS),
        )

    def start(self, module: Module, program: Program) -> Module:
        """Products of f32 on the matrix units, in larger tiles where there is work enough."""
        from targets.nvidia.start import started

        return started(module, program, self.traits(), self.specs[self.arch])

    def own_knobs(self) -> Space:
        """``maxnreg`` caps the registers of a thread."""
        return {"maxnreg": (0, 64, 96, 128, 168, 232)}

    def found_arch(self) -> str | None:
        return probe.nvidia_arch()
