"""What came of each problem and stage: JSON lines that a later run reads and goes on from."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.evaluation.verdict import Outcome, StageResult
from search.kernelbench.checkout import ProblemFile
from search.kernelbench.stages import Plan

Key = tuple[str, str, str, str]
"""Problem, mode, target, stage."""


@dataclass(frozen=True)
class Line:
    """One stage of one problem. ``target`` is empty for stages of the problem itself."""

    problem: str
    name: str
    mode: str
    target: str
    stage: str
    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return (self.problem, self.mode, self.target, self.stage)

    @property
    def level(self) -> int:
        return int(self.problem.partition("/")[0])

    @property
    def passed(self) -> bool:
        return self.outcome is Outcome.PASSED

    @property
    def failed(self) -> bool:
        return self.outcome is Outcome.FAILED


def line(problem: ProblemFile, plan: Plan, target: str, result: StageResult) -> Line:
    """The line of one stage's result."""
    return Line(
        problem.key, problem.name, plan.mode, target, result.stage, result.outcome,
        result.reason, round(result.seconds, 3), result.detail,
    )  # fmt: skip


class Results:
    """The file, and what it holds. Lines are only added; of several for a stage the last counts.

    A line that was cut off by a kill is passed over, so its stage counts as not done.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Key, Line] = {}
        self.runs: list[Mapping[str, Any]] = []
        self._lock = threading.Lock()
        if path.exists():
            self._read(path.read_text())

    def _read(self, text: str) -> None:
        for row in text.splitlines():
            try:
                values = json.loads(row)
            except json.JSONDecodeError:
                continue
            if "run" in values:
                self.runs.append(values["run"])
            else:
                found = Line(**{**values, "outcome": Outcome(values["outcome"])})
                self.lines[found.key] = found
        if text and not text.endswith("\n"):
            with self.path.open("a") as file:
                file.write("\n")

    def add(self, lines: Iterable[Line]) -> None:
        """Keep these, in the file too."""
        with self._lock:
            for one in lines:
                self.lines[one.key] = one
                self._write({**vars(one), "outcome": one.outcome.value})

    def begin(self, run: Mapping[str, Any]) -> None:
        """Keep what a run was made with: versions, machine, settings."""
        with self._lock:
            self.runs.append(run)
            self._write({"run": run})

    def _write(self, values: Mapping[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")

    def done(self, problem: ProblemFile, plan: Plan, again: str) -> bool:
        """Whether all stages are there; with ``again`` = ``failed``, and none of them failed."""
        if again == "all":
            return False
        keys = [(problem.key, plan.mode, t, s) for s, t in plan.stages()]
        have = [self.lines.get(key) for key in keys]
        if any(found is None for found in have):
            return False
        return again != "failed" or not any(found is not None and found.failed for found in have)
