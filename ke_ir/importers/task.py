"""A user's file to the text of an op: what a worker process does, so that user code runs there."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ke_ir.diagnostics import Diagnostic
from ke_ir.importers.sizes import DynamicDim, parsed
from ke_ir.importers.source import load_problem
from ke_ir.importers.torch_export import Argument, Imported, ImportFailure, import_module
from ke_ir.ir import Module
from ke_ir.printer import print_module

MAX_BYTES = 8 << 30
"""Example inputs above this are refused: the import needs their shapes, not so much data."""


def run(request: Mapping[str, Any], progress: Callable[[Any], None]) -> dict[str, Any]:
    """``{"text": ...}`` for ``path`` and ``name``; ``{"diagnostics": ...}`` where it fails.

    ``dynamic`` has dims as ``--dynamic`` takes them, or is left out.
    """
    path, name = Path(request["path"]), request["name"]
    try:
        problem = load_problem(path, name)
        _check_size(problem.inputs)
        dims = _dynamic(request.get("dynamic", ()), problem.module)
        found = import_module(problem.module, problem.inputs, op_name(path, name), dims)
    except ImportFailure as bad:
        return {"diagnostics": bad.diagnostics}
    return {"text": header(found, path, name) + print_module(Module((found.op,)))}


def _dynamic(texts: Sequence[str], module: Any) -> list[DynamicDim]:
    function = getattr(module, "forward", module)
    try:
        return parsed(texts, list(inspect.signature(function).parameters))
    except ValueError as error:
        raise ImportFailure([Diagnostic("dynamic", str(error))]) from None


def _check_size(inputs: tuple[Any, ...]) -> None:
    total = sum(x.numel() * x.element_size() for x in inputs if hasattr(x, "element_size"))
    if total > MAX_BYTES:
        raise ImportFailure([Diagnostic(
            "size", f"`get_inputs()` gives {total / (1 << 30):.1f} GiB of tensors",
            hint=f"give examples of at most {MAX_BYTES >> 30} GiB; sizes can be changed in the .ir",
        )])  # fmt: skip


def op_name(path: Path, name: str) -> str:
    """The class's or function's own name in snake case; the file's for a plain ``Model``."""
    if name == "Model":
        name = re.sub(r"^\d+_", "", path.stem)
    name = re.sub(r"(?<=[a-z0-9A-Z])(?=[A-Z][a-z])", "_", name).lower()
    name = re.sub(r"[^a-z0-9_]+", "_", name).strip("_")
    return name if name and name[0].isalpha() else f"op_{name}"


def _origin(a: Argument) -> str:
    """Where an input comes from, in words."""
    if a.draw is not None:
        return f"random draw {a.position}, {a.draw}"
    return f"input {a.position}" if a.source == "input" else f"{a.source} {a.path}"


def header(found: Imported, path: Path, name: str) -> str:
    """Comments: where the op comes from, and what its inputs and outputs are in the module."""
    import torch

    lines = [f"# {name} of {path.name}, by torch.export of torch {torch.__version__}."]
    for a in found.arguments:
        lines.append(f"#   {a.name}: {_origin(a)}")
    for r in found.results:
        what = f"output {r.position}" if r.source == "output" else f"{r.source} {r.path}, updated"
        lines.append(f"#   {r.name}: {what}")
    return "\n".join(lines) + "\n"
