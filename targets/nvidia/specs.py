"""NVIDIA devices as data: one for each architecture. Peaks are dense, for one device."""

from __future__ import annotations

from types import MappingProxyType

from targets.base import HardwareSpec
from targets.gpu.spec import KIB, NvidiaSpec

_LAUNCH = "launch cost 2.5 us: assumed, not published"
_LIMITS = "CUDA C++ Programming Guide, Technical Specifications per Compute Capability"

_A100 = HardwareSpec(
    arch="sm_80",
    name="NVIDIA A100 SXM 80GB",
    units=108,
    clock_hz=1.41e9,
    matrix_flops=MappingProxyType(
        {"f16": 312e12, "bf16": 312e12, "i8": 624e12, "tf32": 156e12, "f64": 19.5e12}
    ),
    vector_flops=MappingProxyType(
        {"f16": 78e12, "bf16": 39e12, "f32": 19.5e12, "f64": 9.7e12, "i32": 9.75e12}
    ),
    dram_bytes_per_s=2.039e12,
    cache_bytes_per_s=5120 * 1.41e9,
    cache_bytes=40 << 20,
    local_bytes=164 * KIB,
    register_bytes=256 * KIB,
    launch_seconds=2.5e-6,
    sources=(
        "NVIDIA A100 Tensor Core GPU datasheet (80GB SXM)",
        "NVIDIA A100 Tensor Core GPU Architecture whitepaper (L2 read: 5120 bytes a clock)",
        _LIMITS,
        _LAUNCH,
    ),
)

_H100 = HardwareSpec(
    arch="sm_90",
    name="NVIDIA H100 SXM",
    units=132,
    clock_hz=1.83e9,
    matrix_flops=MappingProxyType(
        {
            "f16": 989.4e12,
            "bf16": 989.4e12,
            "f8": 1978.9e12,
            "i8": 1978.9e12,
            "tf32": 494.7e12,
            "f64": 66.9e12,
        }
    ),
    vector_flops=MappingProxyType(
        {"f16": 133.8e12, "bf16": 133.8e12, "f32": 66.9e12, "f64": 33.5e12, "i32": 16.7e12}
    ),
    dram_bytes_per_s=3.35e12,
    cache_bytes_per_s=5120 * 1.83e9,
    cache_bytes=50 << 20,
    local_bytes=228 * KIB,
    register_bytes=256 * KIB,
    launch_seconds=2.5e-6,
    sources=(
        "NVIDIA H100 Tensor Core GPU Architecture whitepaper (SXM5)",
        "L2 bandwidth: assumed, 5120 bytes a clock as on the A100",
        _LIMITS,
        _LAUNCH,
    ),
)

_B200 = HardwareSpec(
    arch="sm_100",
    name="NVIDIA B200 SXM",
    units=148,
    clock_hz=1.965e9,
    matrix_flops=MappingProxyType(
        {
            "f16": 2250e12,
            "bf16": 2250e12,
            "f8": 4500e12,
            "i8": 4500e12,
            "tf32": 1125e12,
            "f64": 37e12,
        }
    ),
    vector_flops=MappingProxyType(
        {"f16": 150e12, "bf16": 150e12, "f32": 75e12, "f64": 37e12, "i32": 37.5e12}
    ),
    dram_bytes_per_s=8e12,
    cache_bytes_per_s=2 * 5120 * 1.965e9,
    cache_bytes=126 << 20,
    local_bytes=228 * KIB,
    register_bytes=256 * KIB,
    launch_seconds=2.5e-6,
    sources=(
        "NVIDIA HGX B200 datasheet, an eighth of the eight-GPU figures",
        "L2 bandwidth: assumed, 5120 bytes a clock for each of two dies",
        _LIMITS,
        _LAUNCH,
    ),
)


def _limits(hardware: HardwareSpec, shared_kib: int, tmem: int = 0) -> NvidiaSpec:
    return NvidiaSpec(
        hardware=hardware,
        warp_size=32,
        max_threads_per_group=1024,
        max_warps_per_unit=64,
        shared_per_group=shared_kib * KIB,
        tmem_columns=tmem,
    )


SPECS = MappingProxyType(
    {
        "sm_90": _limits(_H100, 227),
        "sm_80": _limits(_A100, 163),
        "sm_100": _limits(_B200, 227, tmem=512),
    }
)
"""Limits by architecture, the default one first."""
