"""Takes problems through their stages: a process for each, many at a time, one on the device."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search.evaluation.pool import GIB, Limits, Pool, WorkerFailed
from search.evaluation.verdict import Outcome, StageResult
from search.kernelbench.checkout import ProblemFile
from search.kernelbench.results import Line, Results, line
from search.kernelbench.stages import ON_TARGET, Plan
from targets.base import Presence
from targets.registry import find_target

_CPU = "search.kernelbench.forked:cpu"
_DEVICE = "search.kernelbench.forked:device"

_ON_ONE_DEVICE = 8
"""Processes that are on a device at a time while they check; to time, each is alone there."""

Notice = Callable[[ProblemFile, Sequence[Line]], None]
"""Called with a problem and all its lines once it is done."""


@dataclass(frozen=True)
class Settings:
    """``seconds`` for each stage; ``memory_bytes`` for the process of one problem; ``jobs`` at a
    time; ``timed``: seconds for the timed part of one problem; ``folder`` for what is generated.
    """

    folder: Path
    jobs: int = 0
    seconds: float = 300.0
    memory_bytes: int = 0
    timed: float = 3.0

    def filled(self) -> Settings:
        """All cores, and an equal share of the memory, where nothing else is said."""
        jobs = self.jobs or os.cpu_count() or 1
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return replace(
            self, jobs=jobs, memory_bytes=self.memory_bytes or max(2 * GIB, int(0.9 * total / jobs))
        )


class Runner:
    """``run`` may be interrupted: what was done until then is in the results."""

    def __init__(self, results: Results, plan: Plan, settings: Settings, notice: Notice) -> None:
        self.results, self.plan, self.notice = results, plan, notice
        self.settings = settings.filled()
        jobs = self.settings.jobs
        self._pool = Pool(jobs, max(1, (os.cpu_count() or 1) // jobs))
        self._on_one = min(_ON_ONE_DEVICE, jobs)
        self._device_pool = Pool(self._on_one, 1)
        self._here = {t: find_target(t).availability() for t in plan.targets}

    def run(self, problems: Sequence[ProblemFile]) -> None:
        """All stages of each problem."""
        with (
            self._pool,
            self._device_pool,
            ThreadPoolExecutor(self.settings.jobs) as cpu,
            ThreadPoolExecutor(self._on_one) as device,
        ):
            try:
                waiting: list[Future[Any]] = []
                for future in [cpu.submit(self._on_cpu, p, device) for p in problems]:
                    waiting.append(future.result())
                for future in waiting:
                    future.result()
            except BaseException:
                # Interrupted: end the workers, or leaving this block would wait for them.
                for executor in (cpu, device):
                    executor.shutdown(wait=False, cancel_futures=True)
                self._pool.close()
                self._device_pool.close()
                raise

    def _on_cpu(self, problem: ProblemFile, device: ThreadPoolExecutor) -> Future[Any]:
        """The stages for any machine. Gives what is to wait for: the rest, on the device."""
        request = {
            "path": str(problem.path.resolve()),
            "name": op_name(problem),
            "reduced": self.plan.reduced,
            "targets": list(self.plan.targets),
            "seconds": self.settings.seconds,
            "folder": str(self._folder(problem)),
            "tf32": self.plan.tf32,
        }
        stages = len(self.plan.stages())
        limits = Limits(stages * self.settings.seconds, self.settings.memory_bytes)
        job = _Job(problem, self.plan)
        reply = self._serve(self._pool, job, _CPU, request, limits)
        return device.submit(self._on_device, job, request, reply or {})

    def _on_device(
        self, job: _Job, request: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]
    ) -> None:
        for target, more in found.items():
            if self._here[target].presence is Presence.HERE and "measure" in dir(
                find_target(target)
            ):
                timed = {"timed": self.settings.timed, "target": target}
                limits = Limits(len(ON_TARGET[False]) * self.settings.seconds, 0)
                self._serve(self._device_pool, job, _DEVICE, {**request, **more, **timed}, limits)
        lines = job.finished({t: a.reason for t, a in self._here.items()})
        self.results.add(lines)
        self.notice(job.problem, lines)

    def _serve(
        self, pool: Pool, job: _Job, task: str, request: Mapping[str, Any], limits: Limits
    ) -> Any:
        try:
            return pool.run(task, request, limits, job.progress)
        except WorkerFailed as failure:
            job.ended(failure)
            return None

    def _folder(self, problem: ProblemFile) -> Path:
        folder = self.settings.folder / self.plan.mode / f"level{problem.level}"
        return (folder / problem.path.stem).resolve()


class _Job:
    """One problem on its way: the lines that it has so far."""

    def __init__(self, problem: ProblemFile, plan: Plan) -> None:
        self.problem, self.plan = problem, plan
        self.lines: dict[tuple[str, str], Line] = {}
        self._current = plan.stages()[0]
        self._why = ""

    def progress(self, message: tuple[Any, ...]) -> None:
        """What a worker reports: a stage begins, or it has ended."""
        kind, *rest = message
        if kind == "begin":
            self._current = (rest[0], rest[1])
        else:
            self._keep(rest[0], rest[1])

    def _keep(self, target: str, result: StageResult) -> None:
        self.lines[result.stage, target] = line(self.problem, self.plan, target, result)

    def ended(self, failure: WorkerFailed) -> None:
        """The worker ended in the middle of a stage, which has failed therefore."""
        stage, target = self._current
        if (stage, target) in self.lines:
            stage, target = next(s for s in self.plan.stages() if s not in self.lines)
        detail = {"log": failure.log[-2000:]}
        reason = failure.reason
        if failure.cause != "error":
            reason = f"{failure.cause}: {reason}"
        self._keep(target, StageResult(stage, Outcome.FAILED, reason, detail=detail))
        self._why = f"{stage} {failure.cause}"

    def finished(self, reasons: Mapping[str, str]) -> list[Line]:
        """All lines; for stages that were not come to, why."""
        for stage, target in self.plan.stages():
            if (stage, target) not in self.lines:
                failed = next((x for x in self.lines.values() if x.failed), None)
                why = self._why or (f"{failed.stage} failed" if failed else reasons.get(target, ""))
                self._keep(target, StageResult(stage, Outcome.SKIPPED, why))
        return [self.lines[key] for key in self.plan.stages()]


def op_name(problem: ProblemFile) -> str:
    """A name for the op that is one in every target's language."""
    return f"l{problem.level}_{problem.number}_{problem.name}".strip("_").lower()
