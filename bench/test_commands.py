"""Whole processes as a user starts them: ``pytest bench/test_commands.py``.

Budget: ``ke-gen --target amd examples/rms_norm.ir`` within 0.4 s.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

ROOT = Path(__file__).parents[1]
KE_GEN = Path(sys.executable).with_name("ke-gen")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--target", "amd", "examples/rms_norm.ir"],
        ["--target", "nvidia", "examples/attention.ir"],
        ["--target", "kea", "examples/rms_norm.ir"],
        ["check", "examples/rms_norm.ir"],
        ["diff", "examples/rms_norm.ir", "examples/softmax.ir"],
    ],
    ids=lambda a: " ".join(a),
)
def test_command(benchmark: BenchmarkFixture, arguments: list[str]) -> None:
    def run() -> None:
        done = subprocess.run([KE_GEN, *arguments], cwd=ROOT, capture_output=True)
        assert done.returncode in (0, 1), done.stderr.decode()

    benchmark.pedantic(run, rounds=7, warmup_rounds=1)
