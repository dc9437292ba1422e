"""The worker processes themselves: reuse, limits, and no process left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from targets.gpu import workers
from targets.gpu.workers import Limits, WorkerFailed, call

HANG = """
import os, sys
sys.path.insert(0, {root!r})
from targets.gpu import workers
worker = workers._take("compile", 0)
print(worker.process.pid, flush=True)
os.kill(worker.process.pid, 19)
worker.send({{}}, 60)
"""


def test_a_worker_that_failed_is_not_kept() -> None:
    workers.stop_all()
    with pytest.raises(WorkerFailed) as error:
        call("compile", {"text": "PROGRAM = 1", "arch": "sm_90", "overrides": {}}, Limits(60))
    assert error.value.cause == "error" and not workers._idle


def test_idle_workers_are_ended() -> None:
    worker = workers._take("compile", 0)
    workers._idle.append(worker)
    workers.stop_all()
    assert worker.process.returncode == -signal.SIGKILL


def test_a_worker_ends_when_its_parent_is_gone() -> None:
    script = HANG.format(root=str(Path(__file__).parents[2]))
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    os.kill(child, signal.SIGCONT)
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if b"Z" in Path(f"/proc/{child}/stat").read_bytes().split()[2]:
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")


def test_a_worker_ends_itself_after_its_time() -> None:
    """Even where no Python code can run: a call that holds the interpreter's lock."""
    text = (Path(__file__).parent / "fixtures" / "add.py").read_text()
    text += "\nimport ctypes\nctypes.PyDLL(None).sleep(60)\n"
    worker = workers._take("interpret", 0)
    assert worker.process.stdin is not None
    request = {"text": text, "folder": "", "cases": []}
    message = json.dumps({"request": request, "end_after": 3}).encode()
    worker.process.stdin.write(message + b"\n")
    worker.process.stdin.flush()
    assert worker.process.wait(timeout=30) == -signal.SIGALRM
    worker.stop()
