"""The architectures of the KEA target, read from their data files."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from targets.base import HardwareSpec

ARCHS = ("kea2", "kea1")


@dataclass(frozen=True)
class Arch:
    """One architecture: its description, and the parameters of the simulator in cycles."""

    spec: HardwareSpec
    config: Mapping[str, float]


@cache
def load(arch: str) -> Arch:
    """Read ``arch``'s data file. Rates become bytes per cycle of the PE clock."""
    data = tomllib.loads((Path(__file__).parent / f"{arch}.toml").read_text("utf-8"))
    device, model = data["device"], data["model"]
    hz = float(device["clock_hz"])
    spec = HardwareSpec(
        arch=arch,
        name=device["name"],
        units=device["pes"],
        clock_hz=hz,
        matrix_flops=device["matrix_flops"],
        vector_flops=device["vector_flops"],
        dram_bytes_per_s=device["lpddr_bytes_per_s"],
        cache_bytes_per_s=device["sram_bytes_per_s"],
        cache_bytes=device["sram_bytes"],
        local_bytes=device["local_bytes"],
        register_bytes=0,
        launch_seconds=device["launch_s"],
        sources=tuple(data["sources"]),
    )
    config = {
        "pes": device["pes"],
        "local_bytes": device["local_bytes"],
        "sram_bytes": device["sram_bytes"],
        "lpddr_rate": device["lpddr_bytes_per_s"] / hz,
        "sram_rate": device["sram_bytes_per_s"] / hz,
        "launch_cycles": device["launch_s"] * hz,
        "relaunch_cycles": device["relaunch_s"] * hz,
        **model,
    }
    return Arch(spec, config)
