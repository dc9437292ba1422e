"""What worker processes do: the stages of an evaluation, reported one by one as they end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ke_ir.derive import with_derived
from ke_ir.parser import parse
from search.evaluation.degenerate import degenerate
from search.evaluation.meaning import check_meaning
from search.evaluation.numbers import Subject, check_numbers
from search.evaluation.precision import precision_of
from search.evaluation.timing import check_time
from search.evaluation.verdict import Outcome, StageResult, Verdict
from targets.base import (
    CompileFailed,
    IllegalProgram,
    Presence,
    RunFailed,
    TargetError,
    ToolchainMissing,
)
from targets.registry import find_target, knobs_for

if TYPE_CHECKING:
    from ke_ir.ir import Module
    from targets.base import Compiled, Knobs, Target

Request = Mapping[str, Any]
Progress = Callable[[Any], None]

BEGIN, END = "begin", "end"


def _subject(request: Request) -> Subject:
    module = _module(request["text"], request["file"])
    program = module.programs[request["program"]]
    op = module.ops.get(program.name)
    precision = precision_of(module, program, op or program)
    return Subject(module, program, op, precision, request["dims"])


@lru_cache(maxsize=8)
def _module(text: str, file: str) -> Module:
    return with_derived(parse(text, file))


def common(request: Request, progress: Progress) -> dict[str, Any]:
    """The stages that no target takes part in: ``meaning``; and whether the task is degenerate.

    ``request``: ``text``, ``file``, ``program``, ``dims`` (sizes given). The module is valid.
    """
    subject = _subject(request)
    progress((BEGIN, "meaning"))
    begin = time.perf_counter()
    result = check_meaning(subject.module, subject.program, subject.op, subject.given)
    result = replace(result, seconds=time.perf_counter() - begin)
    progress((END, result))
    flagged = degenerate(subject) if subject.op is not None and not result.failed else ""
    return {
        "stage": result,
        "degenerate": flagged,
        "lower_precision": subject.precision.lower,
    }


def target(request: Request, progress: Progress) -> Verdict:
    """The stages of one target: ``legal``, ``compile``, ``numbers``, ``time``.

    ``request`` as for ``common``, with ``target`` (name.arch), ``baseline`` and ``static_full``.
    """
    return _TargetRun(request, progress).verdict


class _TargetRun:
    """Runs the stages in order, to the first that fails or cannot be tried."""

    def __init__(self, request: Request, progress: Progress) -> None:
        self.request, self.progress = request, progress
        self.subject = _subject(request)
        self.target: Target = find_target(request["target"])
        name, arch = self.target.name, self.target.arch
        self.verdict = Verdict(self.subject.program.name, name, arch, request["file"])
        self.knobs: Knobs = {}
        for stage in (self._legal, self._compile, self._numbers, self._time):
            stage()
            if self.verdict.stages[-1].outcome is not Outcome.PASSED:
                break

    @contextmanager
    def _stage(self, stage: str) -> Iterator[list[StageResult]]:
        """Reports the stage's start and end. The body appends its result, or raises TargetError."""
        self.progress((BEGIN, stage))
        begin = time.perf_counter()
        results: list[StageResult] = []
        try:
            yield results
        except ToolchainMissing as error:
            results = [StageResult(stage, Outcome.SKIPPED, _text(error))]
        except TargetError as error:
            results = [StageResult(stage, Outcome.FAILED, _text(error))]
        for result in results:
            self._end(replace(result, seconds=time.perf_counter() - begin))

    def _end(self, result: StageResult) -> None:
        self.verdict = self.verdict.with_stages(result)
        self.progress((END, result))

    def _legal(self) -> None:
        s = self.subject
        with self._stage("legal") as results:
            self.knobs = knobs_for(self.target, s.module, s.program)
            self.target.lower(s.module, s.program, self.knobs, s.full)
            results.append(StageResult("legal", Outcome.PASSED))

    def _compile(self) -> None:
        s = self.subject
        with self._stage("compile") as results:
            found = self.target.availability()
            if found.presence is Presence.MISSING:
                raise ToolchainMissing(found.reason, fix=found.fix)
            compiled = self.target.compile(s.module, s.program, self.knobs, s.full)
            self.verdict = replace(self.verdict, resources=dict(compiled.resources))
            results.append(_within_limits(compiled))

    def _numbers(self) -> None:
        with self._stage("numbers") as results:
            static_full = self.request["static_full"]
            result, numbers = check_numbers(
                self.subject, self.target, self.knobs, static_full, self.request["baseline"]
            )
            self.verdict = replace(self.verdict, numbers=numbers)
            results.append(result)

    def _time(self) -> None:
        with self._stage("time") as results:
            result, timing, bound, baselines = check_time(
                self.subject, self.target, self.knobs, self.request["baseline"]
            )
            self.verdict = replace(self.verdict, timing=timing, roofline=bound, baselines=baselines)
            results.append(result)


def _within_limits(compiled: Compiled) -> StageResult:
    broken = [f"@{name}: {what}" for name, r in compiled.resources.items() for what in r.exceeded]
    if broken:
        return StageResult("compile", Outcome.FAILED, "; ".join(broken))
    return StageResult("compile", Outcome.PASSED)


def _text(error: TargetError) -> str:
    return f"{error}; {error.fix}" if error.fix else str(error)


def emit(request: Request, _: Progress) -> dict[str, str]:
    """The text of one compiler stage (``emit``), or ``error`` with ``why`` and ``fix``.

    ``request``: as for ``target``.
    """
    module = _module(request["text"], request["file"])
    program = module.programs[request["program"]]
    found = find_target(request["target"])
    try:
        knobs = knobs_for(found, module, program)
        compiled = found.compile(module, program, knobs, program.sizes(request["dims"]))
    except TargetError as error:
        kind = type(error).__name__ if type(error) in _EMIT_ERRORS else TargetError.__name__
        return {"error": kind, "what": error.what, "why": error.why, "fix": error.fix}
    return {"text": compiled.stages.get(request["emit"], "")}


_EMIT_ERRORS = (IllegalProgram, CompileFailed, ToolchainMissing, RunFailed)
