"""Tasks for the tests of the worker pool."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import numpy as np


def double(request: Any, progress: Any) -> Any:
    progress("working")
    return {"value": 2 * request["value"], "pid": os.getpid()}


def crash(request: Any, progress: Any) -> Any:
    print("about to fall over")
    os.abort()


def leave(request: Any, progress: Any) -> Any:
    os._exit(3)


def hang(request: Any, progress: Any) -> Any:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"],
                             start_new_session=True)  # fmt: skip
    progress(child.pid)
    time.sleep(1000)


def hog(request: Any, progress: Any) -> Any:
    kept = []
    while True:
        kept.append(np.ones(1 << 23))
        time.sleep(0.01)


def fail(request: Any, progress: Any) -> Any:
    raise ValueError(f"bad {request['value']}")


def modules(request: Any, progress: Any) -> Any:
    return {name: sys.modules[name].__file__ for name in ("search", "targets", "ke_ir", "numpy")}
