"""A pool of reusable worker processes with wall-clock and memory limits.

A candidate may crash the compiler it goes through, hang, or ask for all the memory there is: in a
worker that costs this candidate only. A worker that behaved serves the next request at once, with
its modules loaded; one that did not is ended with everything it started.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from search.evaluation.processes import kill_tree, tree_bytes

GIB = 1 << 30
_ROOT = Path(__file__).resolve().parents[2]
_WATCH_SECONDS = 0.1
_LOG_LIMIT = 20_000
_START_SECONDS = 60


@dataclass(frozen=True)
class Limits:
    """For one request: ``seconds`` of wall clock, ``memory_bytes`` resident in all its processes.

    Resident memory is watched, not address space limited, because GPU drivers and JIT compilers
    reserve far more addresses than they use. A limit of 0 bytes is none.
    """

    seconds: float = 600.0
    memory_bytes: int = 12 * GIB


class WorkerFailed(Exception):
    """A request failed. ``cause`` is ``crash``, ``timeout``, ``memory`` or ``error``.

    ``reason`` is one line for people, ``log`` the end of what the worker printed.
    """

    def __init__(self, cause: str, reason: str, log: str = "") -> None:
        super().__init__(reason)
        self.cause, self.reason, self.log = cause, reason, log


class _Worker:
    """One process, idle or serving one request."""

    def __init__(self, threads: int) -> None:
        self.connection, theirs = Pipe()
        self._up = False
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "search.evaluation.worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            cwd=tempfile.gettempdir(),
            env=_environment(threads),
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
        theirs.close()

    def serve(
        self,
        request: tuple[str, Mapping[str, Any]],
        limits: Limits,
        progress: Callable[[Any], None],
    ) -> Any:
        """One request. After WorkerFailed other than ``error`` the worker must be stopped.

        Its time begins when the worker is up, however long a loaded machine takes to start it.
        """
        deadline = time.monotonic() + limits.seconds + (0 if self._up else _START_SECONDS)
        self.log.seek(0)
        self.log.truncate()
        try:
            self.connection.send(request)
            while True:
                self._wait(self.connection, deadline, limits)
                kind, value = self.connection.recv()
                if kind == "up":
                    self._up = True
                    deadline = time.monotonic() + limits.seconds
                    continue
                if kind == "done":
                    return value
                if kind == "failed":
                    cause, reason = value
                    raise WorkerFailed(cause, reason, self._log_tail())
                progress(value)
        except (EOFError, ConnectionError):
            raise self._died() from None

    def _wait(self, connection: Connection, deadline: float, limits: Limits) -> None:
        """Until there is a message. Raises WorkerFailed when a limit is passed."""
        while not connection.poll(_WATCH_SECONDS):
            if time.monotonic() > deadline:
                raise WorkerFailed(
                    "timeout", f"no result within {limits.seconds:g} s; stopped", self._log_tail()
                )
            used = tree_bytes(self.process.pid) if limits.memory_bytes else 0
            if used > limits.memory_bytes:
                raise WorkerFailed(
                    "memory",
                    f"used {used / GIB:.2f} GiB, limit {limits.memory_bytes / GIB:g} GiB; stopped",
                    self._log_tail(),
                )

    def _died(self) -> WorkerFailed:
        code = self.process.wait()
        log = self._log_tail()
        last = next((line for line in reversed(log.splitlines()) if line.strip()), "")
        said = f"; it last printed: {last.strip()[:200]}" if last else ""
        if code < 0:
            name = signal.Signals(-code).name
            return WorkerFailed("crash", f"the process was killed by {name}{said}", log)
        return WorkerFailed("crash", f"the process ended with exit code {code}{said}", log)

    def _log_tail(self) -> str:
        size = self.log.seek(0, os.SEEK_END)
        self.log.seek(max(0, size - _LOG_LIMIT))
        return self.log.read().decode(errors="replace")

    def stop(self) -> None:
        """End the process and everything it started."""
        kill_tree(self.process.pid)
        self.process.wait()
        self.connection.close()
        self.log.close()


def _environment(threads: int) -> dict[str, str]:
    """Our packages first, so that a folder of the user's with the same name cannot shadow them."""
    environment = dict(os.environ)
    inherited = environment.get("PYTHONPATH", "")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), inherited]))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.setdefault(name, str(threads))
    return environment


class Pool:
    """Up to ``size`` workers. ``run`` may be called from several threads at once.

    ``threads`` is what libraries may use in each worker; an equal share of the cores if 0. Use as a
    context manager, or call ``close``; workers left over are ended at exit.
    """

    def __init__(self, size: int = 0, threads: int = 0) -> None:
        cores = os.cpu_count() or 1
        self.size = size or max(1, min(4, cores))
        self._threads = threads or max(1, cores // self.size)
        self._slots = threading.Semaphore(self.size)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._closed = False
        atexit.register(self.close)

    def run(
        self,
        task: str,
        request: Mapping[str, Any],
        limits: Limits | None = None,
        progress: Callable[[Any], None] = lambda _: None,
    ) -> Any:
        """The result of one task, ``module:function``, called in a worker with ``request``.

        ``progress`` is called with each value that the task reports on its way. Raises
        WorkerFailed; other requests are not disturbed.
        """
        with self._slots:
            worker = self._take()
            try:
                result = worker.serve((task, request), limits or Limits(), progress)
            except WorkerFailed as failure:
                self._leave(worker, keep=failure.cause == "error")
                raise
            except BaseException:
                self._leave(worker, keep=False)
                raise
            self._leave(worker, keep=True)
            return result

    def _take(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise WorkerFailed("crash", "the pool is closed")
            while self._idle:
                worker = self._idle.pop()
                if worker.process.poll() is None:
                    self._busy.add(worker)
                    return worker
                worker.stop()
            worker = _Worker(self._threads)
            self._busy.add(worker)
            return worker

    def _leave(self, worker: _Worker, keep: bool) -> None:
        with self._lock:
            known = worker in self._busy
            self._busy.discard(worker)
            if keep and known:
                self._idle.append(worker)
                return
        worker.stop()

    def close(self) -> None:
        """End all workers; those that are serving, too (their requests fail)."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy, self._busy = self._busy, set()
        for worker in idle:
            worker.stop()
        for worker in busy:
            kill_tree(worker.process.pid)
            worker.process.wait()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        atexit.unregister(self.close)
