"""What is kept of a run, and what the page says of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from search.evaluation.verdict import FullSize, Outcome, StageResult
from search.kernelbench import stages
from search.kernelbench.checkout import ProblemFile, find
from search.kernelbench.results import Results, line
from search.kernelbench.stages import Plan
from search.kernelbench.summary import figures, summary
from tests.kernelbench.conftest import OWN

GPU = "nvidia.sm_90"
PLAN = Plan(False, (GPU,))


def results_of(stage: str, outcome: Outcome = Outcome.PASSED, **detail: Any) -> StageResult:
    return StageResult(stage, outcome, "said why" if outcome is not Outcome.PASSED else "", 1.0,
                       detail)  # fmt: skip


def complete(problem: ProblemFile, ours: float, eager: float, degenerate: str = "") -> list[Any]:
    """All lines of a problem that passed, with these times in seconds."""
    timings = {"candidate": {"median": ours}, "eager": {"median": eager},
               "torch.compile": {"median": eager / 2}}  # fmt: skip
    device = {"name": "made up", "arch": "sm_90", "runtime": "none"}
    details = {
        stages.LOAD: {"families": ["convolution"]},
        stages.NUMBERS: {"degenerate": degenerate},
        stages.TIME: {"timings": timings, "device": device},
    }
    return [line(problem, PLAN, t, results_of(s, **details.get(s, {}))) for s, t in PLAN.stages()]


@pytest.fixture
def problems() -> list[ProblemFile]:
    return find(OWN, [1, 2])[:45]


def test_a_later_run_goes_on(tmp_path: Path, problems: list[ProblemFile]) -> None:
    first, second, third = problems[:3]
    results = Results(tmp_path / "r.jsonl")
    results.begin({"versions": {"torch": "9"}})
    results.add(complete(first, 1, 2))
    results.add(complete(second, 1, 2)[:-1])
    with results.path.open("a") as file:
        file.write('{"problem": "1/2", "cut o')
    again = Results(results.path)
    assert again.done(first, PLAN, "") and not again.done(second, PLAN, "")
    assert not again.done(third, PLAN, "") and not again.done(first, PLAN, "all")
    assert again.done(first, PLAN, "failed")
    assert not again.done(first, Plan(True, (GPU,)), "")
    assert not again.done(first, Plan(False, (GPU, "kea.kea2")), "")
    again.add([line(first, PLAN, GPU, results_of(stages.NUMBERS, Outcome.FAILED))])
    last = Results(results.path)
    assert last.done(first, PLAN, "") and not last.done(first, PLAN, "failed")
    assert last.lines == again.lines
    assert [json.loads(x) for x in results.path.read_text().splitlines() if "cut" not in x]


def test_figures_of_speed(tmp_path: Path, problems: list[ProblemFile]) -> None:
    """Four problems: 4x, 1x, 1/4x, and a degenerate one that is 100x as fast."""
    results = Results(tmp_path / "r.jsonl")
    for problem, eager, why in zip(
        problems, (4.0, 1.0, 0.25, 100.0), ("", "", "", "y is zero within tolerance"), strict=False
    ):
        results.add(complete(problem, 1.0, eager, why))
    page = summary(results, PLAN)
    assert "| float32 | eager | all | 3 of 3 | 0.333 | 0.333 | 1.000 |" in page
    assert "| kernelbench | torch.compile | all | 3 of 3 | 0.333 | 0.000 | 0.500 |" in page
    assert "| kernelbench nvidia.sm_90 | 4 of 4 | 4 of 4 |" in page
    assert "1/4 MatrixVector: y is zero within tolerance" in page
    assert "**measured** on made up (sm_90), none" in page
    assert "| convolution | 4 | 4 | 4 | 4 | 4 | 1.000 |" in page
    assert figures(results, PLAN)["passed"]["kernelbench nvidia.sm_90"] == 4


def test_wrong_problems_are_in_no_speed_figure(tmp_path: Path, problems: list[ProblemFile]) -> None:
    results = Results(tmp_path / "r.jsonl")
    results.add(complete(problems[0], 1.0, 3.0))
    lines = complete(problems[1], 1.0, 1000.0)
    results.add(lines)
    results.add([line(problems[1], PLAN, GPU, results_of(stages.KERNELBENCH, Outcome.FAILED))])
    page = summary(results, PLAN)
    assert "| kernelbench | eager | all | 1 of 2 | 0.500 | 0.500 | 3.000 |" in page


def test_failures_are_grouped(tmp_path: Path, problems: list[ProblemFile]) -> None:
    """By the reason without what is only this problem's own."""
    results = Results(tmp_path / "r.jsonl")
    for n, problem in enumerate(problems[:14]):
        why = f"line {n}: aten.svd has no form: y[{n}, 3] of @k{n} is {n}.5e-7; and more"
        results.add([line(problem, PLAN, "", StageResult(stages.IMPORT, Outcome.FAILED, why))])
    page = summary(results, PLAN)
    (row,) = [r for r in page.splitlines() if "svd" in r]
    assert row.startswith("| import | 14 | aten.svd has no form: y[...] of @... is # |")
    assert row.endswith("1/12 and 2 more |")
    assert "| import | 0 of 14 | 0 of 14 |" in page


def test_where_pytorch_itself_is_beyond_the_tolerance(
    tmp_path: Path, problems: list[ProblemFile]
) -> None:
    """By the output in which PyTorch is furthest off; not where only the kernel is."""
    results = Results(tmp_path / "r.jsonl")
    ours = {"relative_error": 2e-7, "max_abs_error": 3e-3, "allclose": False}
    near = FullSize(1e-3, 1e-7, False, 0, 2e-6, 1e-9, True)
    given = [
        {"a": asdict(near)},
        {"a": asdict(near), "b": {**ours, "eager_relative_error": 2e-6, "eager_max_abs_error": 0.25,
                                  "eager_allclose": False}},
    ]  # fmt: skip
    for problem, errors in zip(problems, given, strict=False):
        results.add([line(problem, PLAN, GPU, results_of(stages.NUMBERS, given=errors))])
    page = summary(results, PLAN)
    rows = [r for r in page.splitlines() if r.startswith("| 1/") and "0.25" in r]
    name = problems[1].name
    assert rows == [f"| {problems[1].key} | {name} | b | 2e-07, 0.003 | 2e-06, 0.25 |"]
