"""Runs the stages of one problem in a worker, each with an outcome, a reason and a time limit."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ke_ir.importers.torch_export import ImportFailure
from search.evaluation.verdict import Outcome, StageResult
from search.kernelbench.stages import NEEDS
from targets.base import TargetError, ToolchainMissing

Progress = Callable[[Any], None]
Step = Callable[[], StageResult]

BEGIN, END = "begin", "end"


class OutOfTime(BaseException):
    """The stage took too long. Not an Exception, so that the user's code does not catch it."""


class Stages:
    """Tries stages in turn; reports ``(BEGIN, stage, target)`` and ``(END, target, result)``.

    ``expected`` are the exceptions that a problem may rightly end with; their text is the reason.
    """

    def __init__(
        self, progress: Progress, seconds: float, expected: tuple[type[Exception], ...]
    ) -> None:
        self.progress, self.seconds, self.expected = progress, seconds, expected
        self.outcomes: dict[tuple[str, str], Outcome] = {}

    def attempt(self, stage: str, target: str, step: Step) -> None:
        """Run ``step`` if what the stage needs has passed; else say what has not."""
        lacking = next((n for n in NEEDS[stage] if not self._met(n, target)), None)
        if lacking is not None:
            lacking = lacking if isinstance(lacking, str) else lacking[-1]
            outcome = self.outcomes.get((lacking, target)) or self.outcomes.get((lacking, ""))
            self._end(target, StageResult(stage, Outcome.SKIPPED, f"{lacking} {outcome}"))
            return
        self.progress((BEGIN, stage, target))
        begin = time.perf_counter()
        result = self._tried(stage, step)
        self._end(target, replace(result, seconds=time.perf_counter() - begin))

    def _tried(self, stage: str, step: Step) -> StageResult:
        try:
            with time_limit(self.seconds):
                return step()
        except ToolchainMissing as error:
            return StageResult(stage, Outcome.SKIPPED, _text(error))
        except TargetError as error:
            return StageResult(stage, Outcome.FAILED, _text(error))
        except OutOfTime:
            return StageResult(stage, Outcome.FAILED, f"timeout: not done in {self.seconds:g} s")
        except MemoryError as error:
            return StageResult(stage, Outcome.FAILED, f"out of memory: {error}".rstrip(": "))
        except ImportFailure as failure:
            return _refused(stage, failure)
        except self.expected as error:
            return StageResult(stage, Outcome.FAILED, str(error))
        except Exception as error:
            # Nobody foresaw it, so it counts against us, and says where it came from.
            return StageResult(stage, Outcome.FAILED, f"fault in ke-gen: {_place(error)}")

    def _met(self, need: str | tuple[str, ...], target: str) -> bool:
        stages = (need,) if isinstance(need, str) else need
        return any(self._passed(s, target) for s in stages)

    def _passed(self, stage: str, target: str) -> bool:
        found = self.outcomes.get((stage, target)) or self.outcomes.get((stage, ""))
        return found is Outcome.PASSED

    def _end(self, target: str, result: StageResult) -> None:
        self.outcomes[result.stage, target] = result.outcome
        self.progress((END, target, result))


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """OutOfTime in the main thread when the body takes longer, between two Python steps."""

    def ring(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _refused(stage: str, failure: ImportFailure) -> StageResult:
    """All that is unsupported, the first of it as the reason."""
    found = failure.diagnostics
    what = list(dict.fromkeys(d.message.partition("\n")[0] for d in found))
    more = f" (and {len(what) - 1} more)" if len(what) > 1 else ""
    where = f"line {found[0].line}: " if found[0].line else ""
    detail = {"diagnostics": [d.to_dict() for d in found]}
    return StageResult(stage, Outcome.FAILED, f"{where}{what[0]}{more}", detail=detail)


def _text(error: TargetError) -> str:
    return f"{error}; {error.fix}" if error.fix else str(error)


def _place(error: Exception) -> str:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    text = str(error).strip().partition("\n")[0]
    where = ""
    if frame is not None:
        file = frame.tb_frame.f_code.co_filename.rpartition("/")[2]
        where = f" ({file}:{frame.tb_lineno})"
    return f"{type(error).__name__}: {text}{where}"
