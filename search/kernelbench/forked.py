"""A process of its own for each problem, without loading PyTorch anew each time.

A worker of the pool that serves these tasks loads what they need once, and forks for each request:
what a problem's code leaves behind ends with its process. The worker itself never touches a GPU,
which could not be used after the fork.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

Request = Mapping[str, Any]
Progress = Callable[[Any], None]
Task = Callable[[Request, Progress], Any]


class ProcessEnded(Exception):
    """The process of a problem ended by itself, or its task raised: how, in one line."""


def cpu(request: Request, progress: Progress) -> Any:
    """``cpu_task.run`` in a process of its own."""
    with _no_gpu():
        from search.kernelbench import cpu_task

        _warm()
    if not request["reduced"]:
        # Nothing here runs on one, and each context would take its memory.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return _forked(cpu_task.run, request, progress)


def device(request: Request, progress: Progress) -> Any:
    """``device_task.run`` in a process of its own."""
    # Many problems compile their baselines at a time: none starts a pool of compilers for itself.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    from search.kernelbench import device_task

    return _forked(device_task.run, request, progress)


@contextmanager
def _no_gpu() -> Iterator[None]:
    """PyTorch, loaded in here, leaves the GPU alone: a context could not be used after the fork."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


@cache
def _warm() -> None:
    """Import something, so that all that is loaded for it is there. No thread is started."""
    import torch

    from ke_ir.importers.torch_export import import_module

    import_module(torch.nn.ReLU(), (torch.zeros(1),), "warm")


def _forked(task: Task, request: Request, progress: Progress) -> Any:
    ours, theirs = Pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _child(task, request, theirs)
    theirs.close()
    try:
        return _result(ours, progress, pid)
    finally:
        ours.close()


def _child(task: Task, request: Request, connection: Connection) -> None:
    code = 1
    try:
        connection.send(("done", task(request, lambda v: connection.send(("progress", v)))))
        code = 0
    except Exception as error:
        traceback.print_exc()
        connection.send(("raised", f"{type(error).__name__}: {error}"))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Not sys.exit: what the worker would do at its own exit is not for this process.
        os._exit(code)


def _result(connection: Connection, progress: Progress, pid: int) -> Any:
    try:
        while True:
            kind, value = connection.recv()
            if kind != "progress":
                break
            progress(value)
    except (EOFError, ConnectionError):
        raise ProcessEnded(_how(os.waitpid(pid, 0)[1])) from None
    os.waitpid(pid, 0)
    if kind == "raised":
        raise ProcessEnded(value)
    return value


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"the process was killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"the process ended with exit code {os.WEXITSTATUS(status)}"
