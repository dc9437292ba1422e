"""One stage of a target's compiler as text, compiled in a worker process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import targets.base as base
from search.evaluation.pool import Limits, Pool, WorkerFailed

if TYPE_CHECKING:
    from targets.base import Target

_LIMITS = Limits(seconds=300.0)


def compiled_stage(
    text: str, file: str, program: str, target: Target, stage: str, dims: Mapping[str, int]
) -> str:
    """The text of ``stage`` (one of ``target.emits``) of a program of the file's ``text``.

    Raises the target's own TargetError, or CompileFailed when the compiler crashed or hung.
    """
    request = {
        "text": text,
        "file": file,
        "program": program,
        "target": f"{target.name}.{target.arch}",
        "emit": stage,
        "dims": dict(dims),
    }
    try:
        with Pool(1) as pool:
            reply = pool.run("search.evaluation.tasks:emit", request, _LIMITS)
    except WorkerFailed as failure:
        raise base.CompileFailed("compiling failed", f"{failure.cause}: {failure.reason}") from None
    if "error" in reply:
        error: type[base.TargetError] = getattr(base, reply["error"])
        raise error(reply["what"], reply["why"], reply["fix"])
    return str(reply["text"])
