"""AMD Instinct GPUs through Triton: gfx942 (MI300X), gfx90a (MI250X), gfx950 (MI355X)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from targets.amd.specs import SPECS
from targets.gpu import probe
from targets.gpu.target import GpuTarget, Space

if TYPE_CHECKING:
    from ke_ir.ir import Module, Program
    from lowering.triton.traits import Traits


class AmdTarget(GpuTarget):
    """The ``amd`` target."""

    name = "amd"
    vendor = "AMD"
    runtime = "hip"
    specs = SPECS

    def traits(self) -> Traits:
        """Both OCP fp8 types compile on all three; only gfx942 has tf32 (as xf32)."""
        from lowering.triton.traits import Traits

        precisions = {"ieee", "bf16x3", "bf16x6"}
        if self.arch == "gfx942":
            precisions.add("tf32")
        return Traits(
            backend="hip",
            arch=self.arch,
            fp8_types=frozenset({"f8e4m3", "f8e5m2"}),
            dot_precisions=frozenset(precisions),
        )

    def start(self, module: Module, program: Program) -> Module:
        """Pipelines as deep as LDS has room for."""
        from targets.amd.start import started

        return started(module, program, self.specs[self.arch].shared_per_group)

    def own_knobs(self) -> Space:
        """``waves_per_eu`` asks for waves on a SIMD, ``matrix_instr_nonkdim`` the MFMA shape."""
        space: Space = {"waves_per_eu": (0, 1, 2, 3, 4), "matrix_instr_nonkdim": (0, 16, 32)}
        if self.arch != "gfx950":  # deprecated there: the compiler overrides it
            space["kpack"] = (1, 2)
        return space

    def knobs(self, program: Program, module: Module) -> Space:
        """The base class's; f64 products on gfx942 avoid the 16-wide MFMA, which crashes Triton."""
        space = super().knobs(program, module)
        if self.arch == "gfx942" and _multiplies_f64(program, module):
            space["matrix_instr_nonkdim"] = (32,)
        return space

    def found_arch(self) -> str | None:
        return probe.amd_arch()


def _multiplies_f64(program: Program, module: Module) -> bool:
    from ke_ir.ir import statements
    from ke_ir.ops.shape import Dot
    from ke_ir.scope import infer_types
    from ke_ir.types import DType

    for name in {call.kernel for call in program.calls}:
        kernel = module.kernels[name]
        values = infer_types(kernel).values
        for s in statements(kernel.body):
            if isinstance(s, Dot) and isinstance(s.a, str) and values[s.a].dtype is DType.F64:
                return True
    return False
