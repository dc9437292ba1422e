"""Worker processes for the Triton toolchain, with time and memory limits.

Triton's compiler may abort, its interpreter may read wild addresses, and a kernel may hang a GPU:
each happens in a process that can be thrown away. A worker is kept for the next request while it
behaves; any failure ends it. Requests and replies are one line of JSON each.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

WorkerKind = Literal["compile", "interpret", "device"]
FailureCause = Literal["error", "timeout", "memory", "crash", "missing"]

_PASSING = frozenset({"PYTEST_CURRENT_TEST", "_"})
"""Variables that change from call to call and mean nothing to a worker."""
_ROOT = Path(__file__).resolve().parents[2]
_LOG_LIMIT = 20_000
_GRACE_SECONDS = 5
_MOST_IDLE = 4
GIB = 1 << 30


class WorkerFailed(Exception):
    """A request failed. ``reason`` is one line, ``cause`` its class, ``log`` the worker's output.

    ``module`` names the missing Python module when ``cause`` is ``missing``.
    """

    def __init__(self, reason: str, cause: FailureCause, log: str = "", module: str = "") -> None:
        super().__init__(reason)
        self.reason, self.cause, self.log, self.module = reason, cause, log, module


@dataclass(frozen=True)
class Limits:
    """``seconds`` of wall clock for one request; ``memory_bytes`` of address space, 0 for none.

    Address space cannot be limited for a process that uses a GPU (drivers reserve far more of it
    than they use), so device workers run with ``memory_bytes=0``.
    """

    seconds: float = 120.0
    memory_bytes: int = 16 * GIB


@dataclass
class _Worker:
    kind: WorkerKind
    memory_bytes: int
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] = field(init=False)
    log: Any = field(init=False)

    def __post_init__(self) -> None:
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        command = [sys.executable, "-P", "-m", "targets.gpu.worker", self.kind]
        self.process = subprocess.Popen(
            [*command, str(self.memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            cwd=tempfile.gettempdir(),
            env=dict(self.environment),
            start_new_session=True,
        )

    def send(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """One request. Raises WorkerFailed; afterwards the worker must not be used again."""
        deadline = time.monotonic() + seconds
        self.log.seek(0)
        self.log.truncate()
        assert self.process.stdin is not None
        try:
            # The worker also ends itself, a little later, should this process be gone by then.
            message = {"request": request, "end_after": int(seconds) + _GRACE_SECONDS}
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        line = self._read_line(deadline, seconds)
        reply: dict[str, Any] = json.loads(line)
        if "failed" in reply:
            raise WorkerFailed(
                reply["failed"], reply["cause"], self._log_tail(), reply.get("module", "")
            )
        return reply

    def _read_line(self, deadline: float, seconds: float) -> bytes:
        assert self.process.stdout is not None
        descriptor, chunks = self.process.stdout.fileno(), bytearray()
        while not chunks.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise WorkerFailed(
                    f"no answer within {seconds:g} s; stopped", "timeout", self._log_tail()
                )
            chunk = os.read(descriptor, 1 << 20)
            if not chunk:
                raise self._died()
            chunks += chunk
        return bytes(chunks)

    def _died(self) -> WorkerFailed:
        code = self.process.wait()
        log = self._log_tail()
        if "bad_alloc" in log or "MemoryError" in log:
            return WorkerFailed(f"out of memory ({self._limit_text()})", "memory", log)
        if code < 0:
            name = signal.Signals(-code).name
            return WorkerFailed(f"the process was killed by {name}", "crash", log)
        return WorkerFailed(f"the process ended with exit code {code}", "crash", log)

    def _limit_text(self) -> str:
        return f"limit {self.memory_bytes / GIB:g} GiB" if self.memory_bytes else "no limit set"

    def _log_tail(self) -> str:
        size = self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, size - _LOG_LIMIT))
        return str(self.log.read().decode(errors="replace"))

    def stop(self) -> None:
        """End the process and everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


_idle: list[_Worker] = []
_lock = threading.Lock()


def call(kind: WorkerKind, request: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """Run one request in a worker of this kind and return its reply.

    Raises WorkerFailed with the reason; the worker that failed is ended, others are untouched.
    Safe to call from several threads: each call has a worker to itself.
    """
    worker = _take(kind, limits.memory_bytes)
    try:
        reply = worker.send(request, limits.seconds)
    except BaseException:
        worker.stop()
        raise
    with _lock:
        _idle.append(worker)
        surplus = _idle[:-_MOST_IDLE]
        del _idle[:-_MOST_IDLE]
    for other in surplus:
        other.stop()
    return reply


def stop_all() -> None:
    """End every idle worker. Also done at exit."""
    with _lock:
        workers, _idle[:] = list(_idle), []
    for worker in workers:
        worker.stop()


atexit.register(stop_all)


def _take(kind: WorkerKind, memory_bytes: int) -> _Worker:
    environment = _environment(kind)
    with _lock:
        for worker in _idle:
            wanted = (worker.kind, worker.memory_bytes, worker.environment)
            if wanted == (kind, memory_bytes, environment) and worker.process.poll() is None:
                _idle.remove(worker)
                return worker
    return _Worker(kind, memory_bytes, environment)


def _environment(kind: WorkerKind) -> dict[str, str]:
    """Ours first on the path, so that a user's folder of the same name cannot shadow it."""
    environment = {name: text for name, text in os.environ.items() if name not in _PASSING}
    inherited = environment.get("PYTHONPATH", "")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), inherited]))
    environment.pop("TRITON_INTERPRET", None)
    if kind == "interpret":
        environment["TRITON_INTERPRET"] = "1"
    return environment
