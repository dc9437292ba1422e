"""Compiles a generated Triton file for one architecture, with or without a GPU.

The compiler runs in worker processes; see ``compile_worker``. It does not check the architecture's
limits, so that is done here.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from targets.base import Compiled, CompileFailed, Resources, Source
from targets.gpu import probe
from targets.gpu.errors import as_target_error, missing_module
from targets.gpu.generated import parse
from targets.gpu.spec import GpuSpec, Usage
from targets.gpu.workers import Limits, WorkerFailed, call

_SECONDS_A_KERNEL = 15.0
_KERNELS_A_WORKER = 8
"""Kernels that are worth another worker, which starts in about as long as three compile."""
_MOST_WORKERS = 8
"""Each takes up to a GB, and several programs may be compiled at once."""

STAGES = ("ttir", "ttgir", "llir", "asm")
"""Names of the compiler's stages: Triton IR, Triton GPU IR, LLVM IR, and PTX or AMD assembly."""


def compile_source(
    source: Source,
    spec: GpuSpec,
    overrides: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> Compiled:
    """Compile every kernel of ``source``. ``overrides`` replace options that the text declares.

    ``stages`` holds each stage of all kernels, one after the other; ``binary`` the cubin or hsaco
    of each; ``handle`` the ``Usage`` of each by name. A program of many kernels is compiled by
    several workers, and may take longer than one of few, unless ``limits`` (of each worker) say
    otherwise. Raises CompileFailed, ToolchainMissing.
    """
    if not probe.installed("triton"):
        raise missing_module("triton")
    names = list(parse(source.text).kernels)
    parts = _shares(names)
    request = {
        "text": source.text,
        "arch": spec.hardware.arch,
        "overrides": dict(overrides or {}),
    }

    def compiled(part: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        reply = call("compile", {**request, "names": part}, limits or _limits(len(part)))
        return dict(reply["kernels"])

    try:
        found = compiled(names) if len(parts) == 1 else _at_once(compiled, parts)
    except WorkerFailed as failure:
        doing = f"compiling for {spec.hardware.arch}"
        raise as_target_error(failure, CompileFailed, doing) from failure
    kernels = {name: found[name] for name in names}
    usage = {name: _usage(kernel) for name, kernel in kernels.items()}
    return Compiled(
        source=source,
        resources={name: _resources(spec, used) for name, used in usage.items()},
        stages={stage: _joined(kernels, stage) for stage in STAGES},
        binary={name: base64.b64decode(kernel["binary"]) for name, kernel in kernels.items()},
        handle=usage,
    )


def _at_once(
    compiled: Callable[[Sequence[str]], Mapping[str, Mapping[str, Any]]],
    parts: Sequence[Sequence[str]],
) -> dict[str, Mapping[str, Any]]:
    """All parts, in a thread each; a failure or an interrupt does not wait for the others."""
    several = ThreadPoolExecutor(len(parts))
    try:
        return {name: k for done in several.map(compiled, parts) for name, k in done.items()}
    finally:
        several.shutdown(wait=False, cancel_futures=True)


def _shares(names: Sequence[str]) -> list[Sequence[str]]:
    """Which kernels each worker compiles. Neighbours are alike, so that each gets every n-th."""
    workers = min(os.cpu_count() or 1, _MOST_WORKERS, -(-len(names) // _KERNELS_A_WORKER)) or 1
    return [names[i::workers] for i in range(workers)]


def _limits(kernels: int) -> Limits:
    """One kernel takes seconds; the time of the first includes that of starting the compiler."""
    return Limits(seconds=Limits().seconds + _SECONDS_A_KERNEL * (kernels - 1))


def _usage(kernel: Mapping[str, Any]) -> Usage:
    return Usage(
        registers=kernel["registers"],
        spills=kernel["spills"],
        shared_bytes=kernel["shared"],
        threads=kernel["threads"],
        tmem=kernel["tmem"],
    )


def _resources(spec: GpuSpec, usage: Usage) -> Resources:
    return Resources(
        registers=usage.registers,
        spills=usage.spills,
        shared_bytes=usage.shared_bytes,
        occupancy=spec.occupancy(usage),
        exceeded=tuple(spec.exceeded(usage)),
    )


def _joined(kernels: Mapping[str, Mapping[str, Any]], stage: str) -> str:
    comment = "//" if stage in ("ttir", "ttgir") else ";"
    if len(kernels) == 1:
        return str(next(iter(kernels.values()))["stages"][stage])
    parts = (f"{comment} {name}\n{kernel['stages'][stage]}" for name, kernel in kernels.items())
    return "\n".join(parts)
