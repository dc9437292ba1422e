"""The worker process: ``python -m search.evaluation.worker FD``.

Serves requests ``(task, arguments)`` on a connection, one at a time, until the other side closes
it. A task is ``module:function``, called as ``function(arguments, progress)``. Answers are
``("progress", value)`` any number of times, then ``("done", value)`` or
``("failed", (cause, reason))``.
"""

from __future__ import annotations

import importlib
import os
import resource
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any


def main(descriptor: int) -> None:
    """Serve until the connection closes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    connection = Connection(descriptor)
    importlib.import_module("search.evaluation.tasks")
    connection.send(("up", None))
    while True:
        try:
            task, request = connection.recv()
        except EOFError:
            return
        _answer(connection, task, request)


def _end_with_parent(parent: int) -> None:
    """A worker that is busy when its parent is killed would otherwise run on unseen."""
    while os.getppid() == parent:
        time.sleep(1)
    from search.evaluation.processes import kill_tree

    kill_tree(os.getpid())


def _answer(connection: Connection, task: str, request: Any) -> None:
    module, _, name = task.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
        value = function(request, lambda v: connection.send(("progress", v)))
        reply: tuple[str, Any] = ("done", value)
    except MemoryError as error:
        reply = ("failed", ("memory", f"out of memory: {error}".rstrip(": ")))
    except Exception as error:
        traceback.print_exc()
        reply = ("failed", ("error", f"{type(error).__name__}: {error}"))
    sys.stdout.flush()
    sys.stderr.flush()
    connection.send(reply)


if __name__ == "__main__":
    main(int(sys.argv[1]))
