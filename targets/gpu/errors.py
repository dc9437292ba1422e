"""Turns a failed worker request into the target error that a user reads."""

from __future__ import annotations

import re

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
        reason = _said_in(failure.log, failure.reason)
        result = error(f"{doing} failed", reason, _FIXES[failure.cause])
    if failure.log.strip():
        result.add_note(failure.log)
    return result


def _said_in(log: str, reason: str) -> str:
    """The compiler's own words where its exception has none: an assertion, or an MLIR error."""
    if "PassManager::run failed" not in reason:
        return reason
    found = re.search(r"Assertion `(?P<text>.*?)' failed", log) or re.search(
        r"error: (?P<text>(?!Failures have been detected).*)", log
    )
    return f"{reason}: {found['text']}" if found else reason


def missing_module(name: str) -> ToolchainMissing:
    """The error for a Python package that is not installed."""
    package = name.split(".")[0] or "a package"
    return ToolchainMissing(
        f"{package} is not installed",
        "the Triton toolchain needs it",
        f"install ke-gen's GPU extra, or: pip install {package}",
    )
