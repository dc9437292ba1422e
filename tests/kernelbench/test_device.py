"""The device's part, rehearsed on the CPU: its verdicts, and that they can be bad."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("triton")

from search.evaluation.verdict import Outcome, StageResult
from tests.kernelbench.conftest import OWN

ROOT = Path(__file__).parents[2]


RIGHT, WRONG, DEGENERATE = (
    str(next(OWN.glob(name))) for name in ("level1/15_*.py", "level1/8_*.py", "level2/20_*.py")
)
RANDOM = """
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.dropout = nn.Linear(8, 40), nn.Dropout(0.3)

    def forward(self, x):
        return torch.softmax(self.dropout(self.fc(x)) + torch.randn(x.size(0), 40), dim=1)


def get_inputs():
    return [torch.rand(6, 8)]


def get_init_inputs():
    return []
"""
"""Draws a mask and normal numbers."""

CHANGES = (RIGHT, "", "", WRONG, "0.05", "0.5", DEGENERATE, "", "")

Stages = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stages]:
    """Results by problem and stage."""
    folder = tmp_path_factory.mktemp("out")
    for name in ("random.py", "random_wrong.py"):
        (folder / name).write_text(RANDOM)
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernelbench.rehearsal", str(folder), *CHANGES,
         str(folder / "random.py"), "", "", str(folder / "random_wrong.py"), "1.42857", "1.3"],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": "1"},
    )  # fmt: skip
    if "interpreter cannot run" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    found: dict[str, Stages] = {}
    for row in map(json.loads, done.stdout.splitlines()):
        problem = row["problem"].removeprefix(f"{folder}/")
        found.setdefault(problem, {})[row["stage"]] = row
    return found


def test_a_program_that_is_right(rehearsed: dict[str, Stages]) -> None:
    """Both checks pass, changed buffers are among what is compared, and times are there."""
    found = rehearsed[RIGHT]
    assert {stage: x["outcome"] for stage, x in found.items()} == {
        "kernelbench": "passed", "float32": "passed", "numbers": "passed", "time": "passed"
    }, found  # fmt: skip
    assert found["kernelbench"]["reason"].startswith("5 of 5 trials")
    assert set(found["numbers"]["detail"]) == {"given", "signed", "degenerate"}
    assert len(found["numbers"]["detail"]["signed"]) >= 3
    assert found["numbers"]["detail"]["degenerate"] == ""
    times = found["time"]["detail"]
    assert set(times["timings"]) == {"candidate", "eager"} and "torch.compile" in times["failures"]


def test_a_program_that_is_wrong(rehearsed: dict[str, Stages]) -> None:
    """A slope of 0.5 instead of 0.05: no check lets it pass, and it is not timed."""
    found = rehearsed[WRONG]
    assert found["float32"]["outcome"] == "failed"
    assert found["kernelbench"]["outcome"] == "failed"
    assert found["kernelbench"]["reason"].startswith("0 of 5 trials")
    assert found["numbers"]["outcome"] == "failed"
    assert found["time"]["outcome"] == "skipped"
    assert found["time"]["reason"] == "float32 failed"


def test_a_degenerate_problem(rehearsed: dict[str, Stages]) -> None:
    found = rehearsed[DEGENERATE]
    assert found["numbers"]["outcome"] == "passed"
    assert found["numbers"]["detail"]["degenerate"] == "is zero within tolerance"


def test_random_draws(rehearsed: dict[str, Stages]) -> None:
    """The program gets what the module drew, anew in each trial; one that scales wrongly fails."""
    assert {x["outcome"] for x in rehearsed["random.py"].values()} == {"passed"}, rehearsed
    assert rehearsed["random.py"]["kernelbench"]["reason"].startswith("5 of 5 trials")
    assert rehearsed["random_wrong.py"]["kernelbench"]["reason"].startswith("0 of 5 trials")
    assert rehearsed["random_wrong.py"]["numbers"]["outcome"] == "failed"


@pytest.mark.parametrize(
    "words",
    ["CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "device(s) is/are busy or unavailable"],
)
def test_no_room_beside_others(words: str) -> None:
    """It is tried again alone; what is too much for that too says nothing of the program."""
    from search.kernelbench.device_task import _on_device

    asked: list[str] = []

    def step(failures: int) -> StageResult:
        asked.append(words)
        if len(asked) <= failures:
            raise RuntimeError(words)
        return StageResult("numbers", Outcome.PASSED)

    assert _on_device("numbers", lambda: step(1)).outcome is Outcome.PASSED
    assert len(asked) == 2
    asked.clear()
    found = _on_device("numbers", lambda: step(2))
    assert found.outcome is Outcome.SKIPPED and "no room on the device" in found.reason
    with pytest.raises(RuntimeError, match="illegal"):
        _on_device("numbers", _illegal)


def _illegal() -> StageResult:
    raise RuntimeError("an illegal memory access")
