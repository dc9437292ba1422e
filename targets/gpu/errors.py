"""Turns a failed worker request into the target error that a user reads."""

from __future__ import annotations

from targets.base import TargetError, ToolchainMissing
from targets.gpu.workers import WorkerFailed

_FIXES = {
    "timeout": "raise the time limit, or use smaller tiles or sizes",
    "memory": "use smaller tiles or sizes",
    "crash": "the log below comes from the worker process",
    "error": "",
}


def as_target_error(failure: WorkerFailed, error: type[TargetError], doing: str) -> TargetError:
    """The error for a failure, with the worker's log kept on it as a note (not in its message)."""
    if failure.cause == "missing":
        result: TargetError = missing_module(failure.module)
    else:
        result = error(f"{doing} failed", failure.reason, _FIXES[failure.cause])
    if failure.log.strip():
        result.add_note(failure.log)
    return result


def missing_module(name: str) -> ToolchainMissing:
    """The error for a Python package that is not installed."""
    package = name.split(".")[0] or "a package"
    return ToolchainMissing(
        f"{package} is not installed",
        "the Triton toolchain needs it",
        f"install ke-gen's GPU extra, or: pip install {package}",
    )
