"""Runs the command, in this process where that will do and as a process of its own elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMAND = Path(sys.executable).parent / "ke-gen"


@dataclass(frozen=True)
class Done:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """``run(*arguments)`` in this process."""
    from ke_gen.cli import main

    def go(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as caught:
            main([str(a) for a in arguments])
        captured = capfd.readouterr()
        code = caught.value.code
        assert isinstance(code, int)
        assert "Traceback" not in captured.err + captured.out
        return Done(code, captured.out, captured.err)

    return go


def process(
    *arguments: object, cwd: Path | None = None, timeout: float = 120, **environment: str
) -> Done:
    """The installed command, as a process."""
    done = subprocess.run(
        [str(COMMAND), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=timeout,
    )
    assert "Traceback" not in done.stderr + done.stdout
    return Done(done.returncode, done.stdout, done.stderr)
