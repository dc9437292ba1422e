"""Plays the device worker's part on the CPU, under Triton's interpreter: all of it but the GPU.

Run as a script with ``TRITON_INTERPRET=1``; prints the reply as JSON. Clock and cache are
stand-ins, so no figure that it prints is a measurement.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch

from targets.gpu import device_worker


class Event:
    """Records the host's clock where ``torch.cuda.Event`` records the device's."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.at = 0.0

    def record(self) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, end: Event) -> float:
        return (end.at - self.at) * 1e3


def refuse(function: Any, dynamic: bool) -> Any:
    """A ``torch.compile`` whose function fails when it is called."""

    def fails(*_: torch.Tensor) -> None:
        raise RuntimeError("no compiler\nat all")

    return fails


def main(path: str) -> None:
    torch.cuda.Event = Event  # type: ignore[assignment, misc]
    torch.cuda.synchronize = lambda: None  # type: ignore[assignment]
    torch.cuda.empty_cache = lambda: None
    torch.cuda.mem_get_info = lambda: (8 << 30, 8 << 30)  # type: ignore[assignment]
    torch.compile = refuse  # type: ignore[assignment]
    device_worker.DEVICE = "cpu"
    device_worker.describe_device = lambda: {
        "name": "rehearsal", "arch": "sm_90", "units": 1, "dram_bytes_per_s": 0.0,
        "torch": "0", "triton": "0", "runtime": "none",
    }  # fmt: skip
    with open(path) as file:
        print(json.dumps(device_worker.serve(json.load(file))))


if __name__ == "__main__":
    main(sys.argv[1])
