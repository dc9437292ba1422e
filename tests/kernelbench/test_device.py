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

from tests.kernelbench.conftest import OWN

ROOT = Path(__file__).parents[2]


RIGHT, WRONG, DEGENERATE = (
    str(next(OWN.glob(name))) for name in ("level1/15_*.py", "level1/8_*.py", "level2/20_*.py")
)
CHANGES = (RIGHT, "", "", WRONG, "0.05", "0.5", DEGENERATE, "", "")

Stages = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stages]:
    """Results by problem and stage."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernelbench.rehearsal", str(tmp_path_factory.mktemp("out")),
         *CHANGES],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": "1"},
    )  # fmt: skip
    if "interpreter cannot run" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    found: dict[str, Stages] = {}
    for row in map(json.loads, done.stdout.splitlines()):
        found.setdefault(row["problem"], {})[row["stage"]] = row
    return found


def test_a_program_that_is_right(rehearsed: dict[str, Stages]) -> None:
    """Both checks pass, changed buffers are among what is compared, and times are there."""
    found = rehearsed[RIGHT]
    assert {stage: x["outcome"] for stage, x in found.items()} == {
        "kernelbench": "passed", "numbers": "passed", "time": "passed"
    }, found  # fmt: skip
    assert found["kernelbench"]["reason"].startswith("5 of 5 trials")
    assert set(found["numbers"]["detail"]) == {"given", "signed", "degenerate"}
    assert len(found["numbers"]["detail"]["signed"]) >= 3
    assert found["numbers"]["detail"]["degenerate"] == ""
    times = found["time"]["detail"]
    assert set(times["timings"]) == {"candidate", "eager"} and "torch.compile" in times["failures"]


def test_a_program_that_is_wrong(rehearsed: dict[str, Stages]) -> None:
    """A slope of 0.5 instead of 0.05: neither check lets it pass, and it is not timed."""
    found = rehearsed[WRONG]
    assert found["kernelbench"]["outcome"] == "failed"
    assert found["kernelbench"]["reason"].startswith("0 of 5 trials")
    assert found["numbers"]["outcome"] == "failed"
    assert found["time"]["outcome"] == "skipped"
    assert found["time"]["reason"] == "kernelbench failed"


def test_a_degenerate_problem(rehearsed: dict[str, Stages]) -> None:
    found = rehearsed[DEGENERATE]
    assert found["numbers"]["outcome"] == "passed"
    assert found["numbers"]["detail"]["degenerate"] == "is zero within tolerance"
