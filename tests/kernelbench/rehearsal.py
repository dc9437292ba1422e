"""Plays the device's part on the CPU, under Triton's interpreter: all of it but the GPU.

Run with ``TRITON_INTERPRET=1`` as ``rehearsal.py FOLDER [PROBLEM OLD NEW]...``: the generated text
is changed from OLD to NEW first. Prints each stage's result as JSON. Clock and cache are
stand-ins, so no figure that it prints is a measurement.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import torch

from search.kernelbench import cpu_task, device_task
from targets.nvidia.target import NvidiaTarget
from tests.gpu.rehearsal import Event, refuse


def request(path: str, folder: str, old: str, new: str) -> dict[str, Any]:
    """What the stages for any machine give for the device."""
    given = {"path": path, "name": "problem", "reduced": False, "targets": [], "seconds": 100.0,
             "folder": folder, "tf32": False}  # fmt: skip
    run = cpu_task._Run(given, lambda _: None)
    run.run()
    target = NvidiaTarget()
    knobs = {name: values[0] for name, values in target.knobs(run.program, run.module).items()}
    text = target._lower(run.module, run.program, knobs, run.sizes, interpreted=True).text
    assert old in text
    one = cpu_task._Target(target, text.replace(old, new), knobs, run.module, run.program)
    found = run.for_device(one)
    return {**given, **found, "target": "nvidia.sm_90", "timed": 0.01, "floor_seconds": 0.0}


def rehearse(problem: str, folder: str, old: str, new: str) -> None:
    def show(message: tuple[Any, ...]) -> None:
        if message[0] == "end":
            print(json.dumps({"problem": problem, **asdict(message[2])}, default=str))

    given = request(problem, folder, old, new)
    device_task.run({**given, "flush_bytes": 1 << 12}, show)


def main(folder: str, *rest: str) -> None:
    torch.cuda.Event = Event  # type: ignore[assignment, misc]
    torch.cuda.synchronize = lambda: None  # type: ignore[assignment]
    torch.cuda.empty_cache = lambda: None
    torch.cuda.mem_get_info = lambda: (8 << 30, 8 << 30)  # type: ignore[assignment]
    torch.compile = refuse  # type: ignore[assignment]
    device_task.DEVICE = "cpu"
    device_task.describe_device = lambda: {"name": "rehearsal"}
    for problem, old, new in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        rehearse(problem, folder, old, new)


if __name__ == "__main__":
    main(*sys.argv[1:])
