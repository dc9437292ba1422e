"""What a command says when it cannot go on: what, where, why, what to do; and the exit code."""

from __future__ import annotations

import os
import sys

from ke_ir.diagnostics import IRError
from targets.base import (
    CompileFailed,
    IllegalProgram,
    RunFailed,
    TargetError,
)

WRONG, BAD_INPUT = 1, 2


class Fault(Exception):
    """Ends the command with ``code`` and a message on standard error, and what to do about it."""

    def __init__(self, code: int, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.code, self.what, self.fix = code, what, fix

    def report(self) -> int:
        """Print and return the exit code."""
        _say(self.what, self.fix)
        return self.code


class Rejected(Fault):
    """KE-IR that was read and does not verify: ``text`` holds rendered diagnostics."""

    def __init__(self, text: str) -> None:
        super().__init__(WRONG, text)

    def report(self) -> int:
        """Print and return the exit code."""
        print(self.what, file=sys.stderr)
        return self.code


def _say(what: str, fix: str = "") -> None:
    print(f"error: {what}", file=sys.stderr)
    if fix:
        print(f"  = help: {fix}", file=sys.stderr)


def explain(error: Exception) -> int:
    """Print an error of the layers below, and return the exit code that it means."""
    if isinstance(error, IRError):
        print(str(error), file=sys.stderr)
        return BAD_INPUT
    if isinstance(error, TargetError):
        _say(str(error), error.fix)
        wrong = isinstance(error, (IllegalProgram, CompileFailed, RunFailed))
        return WRONG if wrong else BAD_INPUT
    if isinstance(error, OSError):
        _say(f"{error.filename or 'input or output'}: {error.strerror or error}")
        return BAD_INPUT
    if isinstance(error, (MemoryError, RecursionError)):
        _say(f"this input needs more than there is: {type(error).__name__}")
        return BAD_INPUT
    return _internal(error)


def _internal(error: Exception) -> int:
    """A fault of ke-gen's own. The traceback helps us, not the user: it is there on request."""
    if os.environ.get("KE_GEN_TRACEBACK"):
        raise error
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = ""
    if frame is not None:
        where = f" at {os.path.basename(frame.tb_frame.f_code.co_filename)}:{frame.tb_lineno}"
    _say(
        f"this is a fault in ke-gen itself: {type(error).__name__}: {error}{where}",
        "report it with the file; KE_GEN_TRACEBACK=1 shows the whole traceback",
    )
    return 70
