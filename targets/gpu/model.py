"""The analytic time model of a GPU, and the roofline. Nothing is compiled.

A launch takes the longer of what its units compute and what memory moves when the two overlap, and
their sum when they do not; plus the latency of dependent steps, plus the cost of the launch. It
ranks candidates; published models of this kind are 5-15 % off on kernels they were not fitted to,
and this one is not fitted to any device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lowering.count import KernelWork
from lowering.work import Work
from targets.base import HardwareSpec, Kind, Timing

MATRIX_EFFICIENCY = 0.7
"""Fraction of the matrix peak that a well-fed kernel reaches (cuBLAS bf16 on H100: 0.6-0.8)."""
DRAM_EFFICIENCY = 0.9
"""Fraction of the memory bandwidth that a copy reaches (H100: 3.02 of 3.35 TB/s)."""
MEMORY_LATENCY_SECONDS = 7e-7
"""Time of a dependent load from memory under load: assumed."""
_UNIT_BYTES_PER_CLOCK = 64
"""What one unit can take from the cache: 64 bytes a clock."""
_LOCAL_BYTES_PER_CLOCK = 128
"""Shared memory or LDS of one unit: 128 bytes a clock."""
_SPECIAL_PER_VECTOR_OP = 0.25
"""Rate of transcendental instructions relative to plain ones: a quarter (16 of 64 lanes)."""
_MOST_RESIDENT = 8

_STAND_INS: Mapping[str, tuple[tuple[str, float], ...]] = {
    "tf32": (("bf16", 3.0),),
    "f8": (("f16", 1.0),),
    "bf16": (("f16", 1.0),),
}
"""Where the matrix unit lacks a format: another, and how many times the operations."""


@dataclass(frozen=True)
class LaunchTime:
    """Parts of one launch, in seconds. ``total`` combines them and includes the launch cost."""

    matrix: float
    vector: float
    local: float
    dram: float
    cache: float
    latency: float
    total: float


def launch_time(work: KernelWork, hardware: HardwareSpec) -> LaunchTime:
    """Estimated time of one launch on one device."""
    groups = max(1, work.groups)
    resident = _resident(work, hardware)
    per_unit = -(-groups // hardware.units)
    spread = per_unit * hardware.units / groups
    matrix = _matrix_seconds(work.matrix_flops, hardware) / MATRIX_EFFICIENCY * spread
    vector = _vector_seconds(work, hardware) * spread
    local_rate = _LOCAL_BYTES_PER_CLOCK * hardware.clock_hz * hardware.units
    local = work.operand_bytes / local_rate * spread
    busy = min(groups, hardware.units)
    reachable = busy * _UNIT_BYTES_PER_CLOCK * hardware.clock_hz
    moved = sum(work.reads.values()) + sum(work.writes.values())
    dram = moved / min(reachable, hardware.dram_bytes_per_s * DRAM_EFFICIENCY)
    cache = work.traffic_bytes / min(reachable, hardware.cache_bytes_per_s)
    waves = -(-groups // (hardware.units * resident))
    latency = waves * (1 + work.steps / work.stages) * MEMORY_LATENCY_SECONDS
    memory = max(dram, cache)
    if work.stages > 1 or resident > 1:
        body = max(matrix, vector, local, memory, latency)
    else:
        body = matrix + vector + local + max(memory, latency)
    return LaunchTime(matrix, vector, local, dram, cache, latency, body + hardware.launch_seconds)


def estimate(work: Work, hardware: HardwareSpec) -> Timing:
    """Estimated time of a program: its launches one after the other, never below the roofline."""
    parts = [(launch_time(kernel, hardware), times) for kernel, times in work.launches]
    total = sum(part.total * times for part, times in parts)
    floor = roofline_seconds(work, hardware)
    detail: dict[str, float | str] = {
        f"{name}_seconds": sum(getattr(part, name) * times for part, times in parts)
        for name in ("matrix", "vector", "local", "dram", "cache", "latency")
    }
    detail["roofline_seconds"] = floor
    if work.assumptions:
        detail["assumptions"] = "; ".join(work.assumptions)
    return Timing(Kind.ESTIMATED, max(total, floor), f"analytic model of {hardware.name}", detail)


def roofline_seconds(work: Work, hardware: HardwareSpec) -> float:
    """Time that no execution of this program can be below, in seconds.

    Inputs come from memory (the cache is flushed before), outputs may stay in the cache, and the
    matrix operations that the program states run at the peak of their format.
    """
    memory = (
        work.input_bytes + max(0.0, work.output_bytes - hardware.cache_bytes)
    ) / hardware.dram_bytes_per_s
    return max(memory, _matrix_seconds(work.matrix_flops, hardware))


def ideal_seconds(work: Work, hardware: HardwareSpec) -> float:
    """The roofline that fractions are quoted against: outputs are written to memory too."""
    moved = (work.input_bytes + work.output_bytes) / hardware.dram_bytes_per_s
    return max(moved, _matrix_seconds(work.matrix_flops, hardware))


def _matrix_seconds(flops: Mapping[str, float], hardware: HardwareSpec) -> float:
    return sum(_format_seconds(name, count, hardware) for name, count in flops.items())


def _format_seconds(name: str, flops: float, hardware: HardwareSpec) -> float:
    if name in hardware.matrix_flops:
        return flops / hardware.matrix_flops[name]
    for other, times in _STAND_INS.get(name, ()):
        if other in hardware.matrix_flops:
            return flops * times / hardware.matrix_flops[other]
    return flops / hardware.vector_flops.get(name, hardware.vector_flops["f32"])


def _vector_seconds(work: KernelWork, hardware: HardwareSpec) -> float:
    """Peaks count a fused multiply-add as two operations, instructions count once."""
    plain = sum(2 * count / hardware.vector_flops[name] for name, count in work.vector_ops.items())
    special = 2 * work.special_ops / (hardware.vector_flops["f32"] * _SPECIAL_PER_VECTOR_OP)
    return plain + special


def _resident(work: KernelWork, hardware: HardwareSpec) -> int:
    """Workgroups that fit on one unit, by their local memory and tiles; at least one."""
    by_local = hardware.local_bytes / max(1.0, work.staged_bytes)
    by_registers = hardware.register_bytes / max(1.0, work.tile_bytes)
    return max(1, min(_MOST_RESIDENT, int(by_local), int(by_registers)))
