"""Runs a generated Triton file on the CPU through Triton's interpreter, in a worker process.

The result says that the *text* computes these numbers. It says nothing about the compiled kernel.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets.base import RunFailed, ToolchainMissing
from targets.gpu.errors import as_target_error
from targets.gpu.generated import TensorSpec
from targets.gpu.tensors import case_entries, read_arrays
from targets.gpu.workers import Limits, WorkerFailed, call

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]


def interpret(
    text: str,
    cases: Sequence[tuple[Arrays, Mapping[str, TensorSpec]]],
    limits: Limits | None = None,
) -> list[dict[str, np.ndarray[Any, Any]]]:
    """Run a text that was lowered with ``interpret=True`` on each case.

    A case is (inputs by name in launcher order, outputs with dtype and shape). Inputs have their
    declared dtypes (ml_dtypes for bf16 and fp8) and so do the outputs returned. Inputs are checked
    unchanged, stores outside the tensors and elements never written are found. Raises RunFailed
    with the reason, ToolchainMissing.
    """
    check_versions()
    with tempfile.TemporaryDirectory(prefix="ke-gen-") as name:
        folder = Path(name)
        request = {
            "text": text,
            "folder": name,
            "cases": case_entries(cases, folder),
        }
        try:
            reply = call("interpret", request, limits or Limits())
        except WorkerFailed as failure:
            raise as_target_error(failure, RunFailed, "Triton's interpreter") from failure
        return [read_arrays(entries) for entries in reply["outputs"]]


def check_versions() -> None:
    """Raise ToolchainMissing for a Triton whose interpreter fails with the numpy installed."""
    triton, numpy = (_version(name) for name in ("triton", "numpy"))
    if triton and triton < (3, 7) and numpy >= (2, 4):
        raise ToolchainMissing(
            "Triton's interpreter cannot run",
            f"that of Triton {'.'.join(map(str, triton))} fails with numpy 2.4 and later",
            "install triton>=3.7, or numpy<2.4",
        )


def _version(package: str) -> tuple[int, ...]:
    """Major and minor version of an installed package; empty if it is not there."""
    try:
        return tuple(int(part) for part in version(package).split(".")[:2])
    except (PackageNotFoundError, ValueError):
        return ()
