"""Evaluates the programs of a file on targets, each in a worker process of its own.

One ``Evaluator`` keeps its workers from one candidate to the next, so that a search pays for their
start once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from ke_ir.derive import with_derived
from ke_ir.diagnostics import IRError
from ke_ir.ir import Module
from ke_ir.parser import parse
from ke_ir.verify import check
from search.evaluation.pool import Limits, Pool, WorkerFailed
from search.evaluation.verdict import (
    STAGES,
    Outcome,
    StageResult,
    Verdict,
    skip_rest,
)

Notice = Callable[[str, str, str], None]
"""Called with (program, target, stage) as each stage begins."""

_COMMON = "search.evaluation.tasks:common"
_TARGET = "search.evaluation.tasks:target"


@dataclass(frozen=True)
class Candidate:
    """What is evaluated. ``dims`` are sizes that differ from the file's own.

    ``programs`` names those wanted (all when empty); ``baseline`` is a Python file with a function
    ``baseline``, or empty.
    """

    text: str
    file: str = ""
    dims: Mapping[str, int] | None = None
    programs: Sequence[str] = ()
    baseline: str = ""


class Evaluator:
    """Use as a context manager; ``limits`` are for each (candidate, target) pair.

    A ``pool`` that is given is left open at the end.
    """

    def __init__(
        self, workers: int = 0, limits: Limits | None = None, pool: Pool | None = None
    ) -> None:
        self._shared = pool is not None
        self.pool = pool or Pool(workers)
        self.limits = limits or Limits()

    def __enter__(self) -> Evaluator:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._shared:
            self.pool.__exit__()

    def check(self, candidate: Candidate) -> tuple[Verdict, ...]:
        """The stages before any target: parse, verify, meaning. One verdict for each program."""
        return self.evaluate(candidate, ())

    def evaluate(
        self,
        candidate: Candidate,
        targets: Sequence[str],
        notice: Notice = lambda *_: None,
    ) -> tuple[Verdict, ...]:
        """One verdict for each program and target (``name`` or ``name.arch``), in that order.

        Without targets, one for each program. A file that does not parse or verify gives one
        verdict, without a program, whose failed stage holds the diagnostics in its detail.
        """
        stages, module = _read(candidate)
        if module is None:
            return (_failed_early(candidate, stages),)
        names = candidate.programs or tuple(module.programs)
        jobs = [_Job(self, candidate, name, stages, notice) for name in names]
        with ThreadPoolExecutor(self.pool.size) as threads:
            try:
                heads = list(threads.map(_Job.common, jobs))
                if not targets:
                    return tuple(heads)
                pairs = [
                    (job, head, t) for job, head in zip(jobs, heads, strict=True) for t in targets
                ]
                return tuple(threads.map(lambda pair: pair[0].on_target(*pair[1:]), pairs))
            except BaseException:
                # Interrupted: end the workers, or leaving this block would wait for them.
                threads.shutdown(wait=False, cancel_futures=True)
                self.pool.close()
                raise


def _read(candidate: Candidate) -> tuple[tuple[StageResult, ...], Module | None]:
    """Parse, verify and derive, which are fast and safe enough to do here."""
    stages: list[StageResult] = []
    module = None
    for stage in ("parse", "verify"):
        begin = time.perf_counter()
        try:
            if module is None:
                module = parse(candidate.text, candidate.file)
            else:
                module = with_derived(check(module))
        except IRError as error:
            found = error.diagnostics
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            where = f"line {found[0].line}: " if found and found[0].line else ""
            detail = {"diagnostics": [d.to_dict() for d in found]}
            reason = f"{where}{found[0].message}{more}"
            stages.append(StageResult(stage, Outcome.FAILED, reason, detail=detail))
            return tuple(stages), None
        seconds = time.perf_counter() - begin
        stages.append(StageResult(stage, Outcome.PASSED, seconds=seconds))
    return tuple(stages), module


def _failed_early(candidate: Candidate, stages: tuple[StageResult, ...]) -> Verdict:
    rest = tuple(skip_rest(stages, f"{stages[-1].stage} failed"))
    return Verdict("", "", "", candidate.file, (*stages, *rest))


class _Job:
    """One program of a candidate, on its way through the workers."""

    def __init__(
        self,
        evaluator: Evaluator,
        candidate: Candidate,
        program: str,
        stages: tuple[StageResult, ...],
        notice: Notice,
    ) -> None:
        self.evaluator, self.program, self.notice = evaluator, program, notice
        self.head = Verdict(program, "", "", candidate.file, stages)
        self.request = {
            "text": candidate.text,
            "file": candidate.file,
            "program": program,
            "dims": dict(candidate.dims or {}),
            "baseline": candidate.baseline,
        }

    def common(self) -> Verdict:
        """The verdict with all stages that no target takes part in."""
        reply, done = self._run(_COMMON, self.request, "")
        if reply is None:
            return replace(self.head, stages=(*self.head.stages, *done))
        return replace(
            self.head,
            stages=(*self.head.stages, reply["stage"]),
            degenerate=reply["degenerate"],
            lower_precision=reply["lower_precision"],
        )

    def on_target(self, head: Verdict, target: str) -> Verdict:
        """The verdict on one target, given the one that is common to all."""
        name, _, arch = target.partition(".")
        verdict = replace(head, target=name, arch=arch)
        if not head.failures:
            meaning = head.stages[-1]
            static = bool(meaning.detail.get("static_full", False))
            request = {**self.request, "target": target, "static_full": static}
            reply, done = self._run(_TARGET, request, target)
            if reply is None:
                verdict = verdict.with_stages(*done)
            else:
                verdict = replace(
                    reply,
                    stages=(*head.stages, *reply.stages),
                    degenerate=head.degenerate,
                    lower_precision=head.lower_precision,
                )
        return _ordered(verdict.with_stages(*skip_rest(verdict.stages, _why(verdict))))

    def _run(
        self, task: str, request: Mapping[str, Any], target: str
    ) -> tuple[Any, list[StageResult]]:
        """A task's reply; or None and the stages it got through, the last one failed."""
        done: list[StageResult] = []
        current = ["meaning" if not target else "legal"]

        def progress(message: tuple[str, Any]) -> None:
            kind, value = message
            if kind == "begin":
                current[0] = value
                self.notice(self.program, target, value)
            else:
                done.append(value)

        begin = time.perf_counter()
        try:
            return self.evaluator.pool.run(task, request, self.evaluator.limits, progress), done
        except WorkerFailed as failure:
            seconds = time.perf_counter() - begin
            detail = {"cause": failure.cause, "log": failure.log[-4000:]}
            reason = f"{failure.cause}: {failure.reason}"
            outcome = Outcome.FAILED
            if failure.cause == "error":
                # An exception that nobody foresaw says nothing of the kernel.
                outcome, reason = Outcome.SKIPPED, f"a fault in ke-gen or the target: {reason}"
            done.append(StageResult(current[0], outcome, reason, seconds, detail))
            return None, done


def _why(verdict: Verdict) -> str:
    """Why the stages after the last one were not tried."""
    if verdict.failures:
        return f"{verdict.failures[0].stage} failed"
    last = verdict.stages[-1]
    return f"{last.stage} was skipped" if last.outcome is Outcome.SKIPPED else "not reached"


def _ordered(verdict: Verdict) -> Verdict:
    order = {name: i for i, name in enumerate(STAGES)}
    return replace(verdict, stages=tuple(sorted(verdict.stages, key=lambda s: order[s.stage])))
