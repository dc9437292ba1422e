"""Which stages are tried, by what passed before."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

from search.evaluation.verdict import Outcome, StageResult
from search.kernelbench import stages
from search.kernelbench.stage import Stages

GPU = "nvidia.sm_90"


def outcomes(passed: set[str], tried: list[str]) -> dict[str, StageResult]:
    """What came of the stages on a device when those of ``passed`` pass; which were tried."""
    found: dict[str, StageResult] = {}

    def note(message: tuple[Any, ...]) -> None:
        if message[0] == "end":
            found[message[2].stage] = message[2]

    all_stages = Stages(note, 10.0, ())
    for stage in (stages.LOAD, stages.IMPORT, stages.DERIVE):
        all_stages.outcomes[stage, ""] = Outcome.PASSED
    for stage in stages.ON_TARGET[False]:

        def step(stage: str = stage) -> StageResult:
            tried.append(stage)
            outcome = Outcome.PASSED if stage in passed else Outcome.FAILED
            return StageResult(stage, outcome)

        all_stages.attempt(stage, GPU, step)
    return found


@pytest.mark.parametrize("check", [stages.KERNELBENCH, stages.FLOAT32])
def test_time_needs_one_of_the_two_checks(check: str) -> None:
    """A program in TF32 may pass the one, a program in float32 the other."""
    tried: list[str] = []
    found = outcomes({stages.COMPILE, check, stages.TIME}, tried)
    assert tried == list(stages.ON_TARGET[False])
    assert found[stages.TIME].outcome is Outcome.PASSED


def test_what_passes_neither_is_not_timed() -> None:
    tried: list[str] = []
    found = outcomes({stages.COMPILE, stages.NUMBERS}, tried)
    assert stages.TIME not in tried
    assert found[stages.TIME].outcome is Outcome.SKIPPED
    assert found[stages.TIME].reason == "float32 failed"


def test_nothing_is_tried_of_what_does_not_compile() -> None:
    tried: list[str] = []
    found = outcomes(set(), tried)
    assert tried == [stages.COMPILE]
    assert {x.reason for s, x in found.items() if s != stages.COMPILE} == {"compile failed"}
