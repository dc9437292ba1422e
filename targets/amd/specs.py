"""AMD devices as data: one for each architecture. Peaks are dense, for one device."""

from __future__ import annotations

from types import MappingProxyType

from targets.base import HardwareSpec
from targets.gpu.spec import KIB, AmdSpec

_LAUNCH = "launch cost 5 us: assumed, not published"

_MI250X = HardwareSpec(
    arch="gfx90a",
    name="AMD Instinct MI250X (one GCD)",
    units=110,
    clock_hz=1.7e9,
    matrix_flops=MappingProxyType(
        {"f16": 191.5e12, "bf16": 191.5e12, "i8": 191.5e12, "f32": 47.9e12, "f64": 47.9e12}
    ),
    vector_flops=MappingProxyType(
        {"f16": 47.9e12, "bf16": 23.9e12, "f32": 23.9e12, "f64": 23.9e12, "i32": 12e12}
    ),
    dram_bytes_per_s=1.6384e12,
    cache_bytes_per_s=6.96e12,
    cache_bytes=8 << 20,
    local_bytes=64 * KIB,
    register_bytes=512 * KIB,
    launch_seconds=5e-6,
    sources=(
        "AMD Instinct MI250X datasheet, half of the two-GCD figures",
        "AMD CDNA 2 Architecture whitepaper (L2: 32 channels of 128 bytes a clock)",
        _LAUNCH,
    ),
)

_MI300X = HardwareSpec(
    arch="gfx942",
    name="AMD Instinct MI300X",
    units=304,
    clock_hz=2.1e9,
    matrix_flops=MappingProxyType(
        {
            "f16": 1307.4e12,
            "bf16": 1307.4e12,
            "f8": 2614.9e12,
            "i8": 2614.9e12,
            "tf32": 653.7e12,
            "f32": 163.4e12,
            "f64": 163.4e12,
        }
    ),
    vector_flops=MappingProxyType(
        {"f16": 163.4e12, "bf16": 163.4e12, "f32": 163.4e12, "f64": 81.7e12, "i32": 40.9e12}
    ),
    dram_bytes_per_s=5.3e12,
    cache_bytes_per_s=17.2e12,
    cache_bytes=256 << 20,
    local_bytes=64 * KIB,
    register_bytes=512 * KIB,
    launch_seconds=5e-6,
    sources=(
        "AMD Instinct MI300X datasheet",
        "AMD CDNA 3 Architecture whitepaper (Infinity Cache: 256 MB, 17.2 TB/s)",
        _LAUNCH,
    ),
)

_MI355X = HardwareSpec(
    arch="gfx950",
    name="AMD Instinct MI355X",
    units=256,
    clock_hz=2.4e9,
    matrix_flops=MappingProxyType(
        {
            "f16": 2516.6e12,
            "bf16": 2516.6e12,
            "f8": 5033.2e12,
            "i8": 5033.2e12,
            "f32": 157.3e12,
            "f64": 78.6e12,
        }
    ),
    vector_flops=MappingProxyType(
        {"f16": 157.3e12, "bf16": 157.3e12, "f32": 157.3e12, "f64": 78.6e12, "i32": 39.3e12}
    ),
    dram_bytes_per_s=8e12,
    cache_bytes_per_s=17.2e12,
    cache_bytes=256 << 20,
    local_bytes=160 * KIB,
    register_bytes=512 * KIB,
    launch_seconds=5e-6,
    sources=(
        "AMD Instinct MI355X datasheet",
        "AMD CDNA 4 Architecture whitepaper (LDS 160 KB, Infinity Cache 256 MB)",
        "Infinity Cache bandwidth: assumed to be the MI300X figure",
        _LAUNCH,
    ),
)


def _limits(hardware: HardwareSpec) -> AmdSpec:
    return AmdSpec(
        hardware=hardware,
        warp_size=64,
        max_threads_per_group=1024,
        max_warps_per_unit=32,
        shared_per_group=hardware.local_bytes,
    )


SPECS = MappingProxyType(
    {"gfx942": _limits(_MI300X), "gfx90a": _limits(_MI250X), "gfx950": _limits(_MI355X)}
)
"""Limits by architecture, the default one first."""
