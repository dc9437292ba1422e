"""Limits of one GPU architecture beside its ``HardwareSpec``, and the occupancy they allow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from targets.base import HardwareSpec

KIB = 1024


@dataclass(frozen=True)
class Usage:
    """What one compiled kernel uses. ``registers`` is per thread (NVIDIA) or per lane (AMD).

    ``spills``: bytes of spill stores a thread (NVIDIA) or spilled registers (AMD). ``tmem``:
    columns of tensor memory (sm_100).
    """

    registers: int
    spills: int
    shared_bytes: int
    threads: int
    tmem: int = 0


@dataclass(frozen=True)
class GpuSpec(ABC):
    """An architecture: the device modelled, and the limits a kernel may not exceed.

    ``shared_per_group`` is what one workgroup may use, ``hardware.local_bytes`` what a unit has.
    Subclasses say how many workgroups fit.
    """

    hardware: HardwareSpec
    warp_size: int
    max_threads_per_group: int
    max_warps_per_unit: int
    shared_per_group: int

    @abstractmethod
    def groups_per_unit(self, usage: Usage) -> int:
        """Workgroups resident on one unit; 0 when not even one fits."""

    def occupancy(self, usage: Usage) -> float:
        """Resident warps as a fraction of the unit's maximum (0..1)."""
        warps = -(-usage.threads // self.warp_size)
        return min(1.0, self.groups_per_unit(usage) * warps / self.max_warps_per_unit)

    def exceeded(self, usage: Usage) -> Sequence[str]:
        """Each limit that is broken, with both figures. The compiler does not check these."""
        found = []
        if usage.shared_bytes > self.shared_per_group:
            found.append(f"{self.shared_name} {usage.shared_bytes} B of {self.shared_per_group} B")
        if usage.threads > self.max_threads_per_group:
            found.append(f"threads {usage.threads} of {self.max_threads_per_group}")
        return found

    @property
    @abstractmethod
    def shared_name(self) -> str:
        """The vendor's name for memory that a workgroup shares."""


@dataclass(frozen=True)
class NvidiaSpec(GpuSpec):
    """NVIDIA limits: "Technical Specifications per Compute Capability", CUDA C++ Programming Guide.

    A unit is four partitions, each with a quarter of the registers and warps; registers are
    allocated 256 at a time to each warp. CUDA reserves 1 KiB of shared memory for each block.
    """

    registers_per_unit: int = 65536
    max_groups_per_unit: int = 32
    tmem_columns: int = 0

    @property
    def shared_name(self) -> str:
        return "shared memory"

    def groups_per_unit(self, usage: Usage) -> int:
        warps = -(-usage.threads // self.warp_size)
        per_warp = -(-max(usage.registers, 1) * self.warp_size // 256) * 256
        by_registers = 4 * (self.registers_per_unit // 4 // per_warp) // warps
        shared = -(-usage.shared_bytes // 128) * 128 + KIB
        by_shared = self.hardware.local_bytes // shared
        by_warps = self.max_warps_per_unit // warps
        limits = [by_registers, by_shared, by_warps, self.max_groups_per_unit]
        if usage.tmem:
            limits.append(self.tmem_columns // usage.tmem)
        return min(limits)

    def exceeded(self, usage: Usage) -> Sequence[str]:
        found = list(super().exceeded(usage))
        if usage.tmem > self.tmem_columns:
            found.append(f"tensor memory {usage.tmem} columns of {self.tmem_columns}")
        return found


@dataclass(frozen=True)
class AmdSpec(GpuSpec):
    """AMD CDNA limits: CDNA 2, 3 and 4 ISA guides.

    A SIMD has 512 vector registers a lane (accumulation registers included), allocated 8 at a
    time, and holds at most 8 waves; a unit has 4 SIMDs.
    """

    registers_per_lane: int = 512
    simds_per_unit: int = 4

    @property
    def shared_name(self) -> str:
        return "LDS"

    def groups_per_unit(self, usage: Usage) -> int:
        warps = -(-usage.threads // self.warp_size)
        allocated = -(-max(usage.registers, 1) // 8) * 8
        per_simd = self.max_warps_per_unit // self.simds_per_unit
        waves = min(per_simd, self.registers_per_lane // allocated)
        by_waves = self.simds_per_unit * waves // warps
        if not usage.shared_bytes:
            return by_waves
        return min(by_waves, self.hardware.local_bytes // usage.shared_bytes)
