"""The worker process: ``python -m targets.gpu.worker KIND MEMORY_BYTES``.

Reads requests (one JSON object a line) from standard input and answers each with one line on the
original standard output. Everything that a kernel or a compiler prints goes to standard error,
which the parent keeps as the log.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import traceback
from typing import Any, TextIO

from targets.gpu.reasons import is_memory, one_line

_MODULES = {
    "compile": "targets.gpu.compile_worker",
    "interpret": "targets.gpu.interpret_worker",
    "device": "targets.gpu.device_worker",
}


def main(kind: str, memory_bytes: int) -> None:
    """Serve requests until standard input closes."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        message = json.loads(line)
        # SIGALRM's default action ends the process even where Python code never runs again.
        signal.alarm(message["end_after"])
        _answer(kind, message["request"], replies)
        signal.alarm(0)


def _answer(kind: str, request: dict[str, Any], replies: TextIO) -> None:
    try:
        reply = importlib.import_module(_MODULES[kind]).serve(request)
    except MemoryError as error:
        reply = {"failed": f"out of memory: {error}".strip(": "), "cause": "memory"}
    except ModuleNotFoundError as error:
        traceback.print_exc()
        reply = {"failed": str(error), "cause": "missing", "module": error.name or ""}
    except Exception as error:
        traceback.print_exc()
        reply = {"failed": one_line(error), "cause": "memory" if is_memory(error) else "error"}
    sys.stderr.flush()
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
