"""Reads what a generated Triton file says about itself, without importing it.

The file's form is described in ``docs/generated-triton.md``. Upper-case names are plain literals,
so they are read from the syntax tree; nothing of the file is executed here.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from targets.base import CompileFailed

_LITERALS = ("PROGRAM", "DIMS", "INPUTS", "OUTPUTS", "KERNELS")


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of the program: KE-IR dtype name and shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class KernelSpec:
    """How one ``@triton.jit`` function is compiled.

    ``signature`` maps every non-constexpr parameter to its Triton type, ``divisible`` names those
    that are multiples of 16, ``grid`` is the launch grid at the file's ``DIMS``.
    """

    name: str
    signature: Mapping[str, str]
    constexprs: Mapping[str, Any]
    divisible: Sequence[str]
    options: Mapping[str, Any]
    grid: tuple[int, int, int]


@dataclass(frozen=True)
class Generated:
    """A generated file: its text and what it declares."""

    text: str
    program: str
    dims: Mapping[str, int]
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    kernels: Mapping[str, KernelSpec]

    @property
    def digest(self) -> str:
        """Content hash (hex, 16 digits); names the file when it is written to disk."""
        return text_digest(self.text)


def text_digest(text: str) -> str:
    """Content hash of a text: 16 hex digits of SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse(text: str) -> Generated:
    """Read a generated file. Raises CompileFailed when it is not of the documented form."""
    try:
        values = _literals(ast.parse(text))
        return Generated(
            text=text,
            program=values["PROGRAM"],
            dims=values["DIMS"],
            inputs={name: _tensor(spec) for name, spec in values["INPUTS"].items()},
            outputs={name: _tensor(spec) for name, spec in values["OUTPUTS"].items()},
            kernels={name: _kernel(name, spec) for name, spec in values["KERNELS"].items()},
        )
    except (SyntaxError, ValueError, KeyError, TypeError, AttributeError) as error:
        line = f" in `{(error.text or '').strip()}`" if isinstance(error, SyntaxError) else ""
        raise CompileFailed(
            "the generated file cannot be read",
            f"{type(error).__name__}: {error}{line}",
            "docs/generated-triton.md gives the form that the lowering must produce",
        ) from error


def kernels_only(text: str, without: Collection[str] = ()) -> str:
    """The file with everything but its kernels blanked out, line numbers kept.

    Kernels need neither torch nor the launcher; without them a compile does not pay for importing
    torch, and works where torch is not installed. Kernels named in ``without`` go as well. Triton
    takes a kernel's line into the key of its cache, which is why lines stay where they are.
    """
    lines = text.split("\n")
    kept: set[int] = set()
    for node in ast.parse(text).body:
        if _needed_by_kernels(node) and getattr(node, "name", "") not in without:
            first = min((d.lineno for d in getattr(node, "decorator_list", [])), default=10**9)
            kept.update(range(min(first, node.lineno), (node.end_lineno or node.lineno) + 1))
    return "\n".join(line if i in kept else "" for i, line in enumerate(lines, 1)) + "\n"


def _needed_by_kernels(node: ast.stmt) -> bool:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names]
        return any(name.split(".")[0] == "triton" for name in names)
    if isinstance(node, ast.FunctionDef):
        return any("jit" in ast.unparse(decorator) for decorator in node.decorator_list)
    return isinstance(node, ast.Assign) and "constexpr" in ast.unparse(node.value)


def _literals(tree: ast.Module) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in _LITERALS:
                values[name] = ast.literal_eval(node.value)
    return values


def _tensor(spec: Any) -> TensorSpec:
    dtype, shape = spec
    return TensorSpec(str(dtype), tuple(int(size) for size in shape))


def _kernel(name: str, spec: Mapping[str, Any]) -> KernelSpec:
    x, y, z = (*spec["grid"], 1, 1)[:3]
    return KernelSpec(
        name=name,
        signature=dict(spec["signature"]),
        constexprs=dict(spec["constexprs"]),
        divisible=tuple(spec["divisible"]),
        options=dict(spec["options"]),
        grid=(int(x), int(y), int(z)),
    )
