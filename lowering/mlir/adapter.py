"""The only module that touches the MLIR bindings, so that they can be swapped.

``xtc-mlir-python-bindings`` offers them as ``mlir``; ``torch-mlir`` as ``torch_mlir``, same API.
"""

from __future__ import annotations

import ctypes
import importlib
from functools import cache
from types import ModuleType
from typing import Any

from lowering.mlir.dialect import irdl_text

_PACKAGES = ("mlir", "torch_mlir")
_TO_LLVM = (
    "builtin.module(canonicalize,cse,arith-expand,convert-scf-to-cf,finalize-memref-to-llvm,"
    "convert-arith-to-llvm,convert-cf-to-llvm,convert-func-to-llvm,reconcile-unrealized-casts)"
)


class MlirError(Exception):
    """MLIR rejected a module; the message is its own."""


class MlirMissing(Exception):
    """No MLIR bindings are installed."""


@cache
def package() -> str:
    """Name of the package that offers the bindings. Raises MlirMissing."""
    reasons = []
    for name in _PACKAGES:
        try:
            importlib.import_module(f"{name}.ir")
            return name
        except ImportError as error:
            reasons.append(f"{name}: {error}")
    raise MlirMissing("; ".join(reasons))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{package()}.{name}")


def ir() -> Any:
    """The core of the bindings (contexts, modules, operations, types, attributes)."""
    return _module("ir")


def dialect(name: str) -> Any:
    """The operation builders of an upstream dialect."""
    return _module(f"dialects.{name}")


@cache
def context() -> Any:
    """This process's context, in which the ``kea`` dialect is loaded."""
    bindings = ir()
    ctx = bindings.Context()
    with ctx, bindings.Location.unknown():
        irdl = dialect("irdl")
        irdl.load_dialects(bindings.Module.parse(irdl_text()))
    return ctx


def parse(text: str, ctx: Any) -> Any:
    """Parse and verify a module. Raises MlirError with MLIR's own diagnostics."""
    bindings = ir()
    try:
        with ctx:
            module = bindings.Module.parse(text)
            module.operation.verify()
    except bindings.MLIRError as error:
        raise MlirError(str(error)) from error
    return module


def operations(root: Any, prefix: str) -> list[Any]:
    """All operations under ``root`` whose names start with ``prefix``, in order."""
    found: list[Any] = []

    def visit(op: Any) -> Any:
        if op.name.startswith(prefix):
            found.append(op)
        return ir().WalkResult.ADVANCE

    root.operation.walk(visit)
    return found


def lower_to_llvm(module: Any) -> None:
    """Rewrite a module of upstream dialects to the LLVM dialect, in place. Raises MlirError."""
    bindings = ir()
    manager = _module("passmanager").PassManager
    try:
        with module.context:
            manager.parse(_TO_LLVM).run(module.operation)
    except bindings.MLIRError as error:
        raise MlirError(str(error)) from error


class Engine:
    """Jitted code, with native libraries that it may call."""

    def __init__(self, module: Any, libraries: list[str]) -> None:
        # The commands are calls: optimising what is between them takes longer than it saves.
        self._engine = _module("execution_engine").ExecutionEngine(
            module, opt_level=0, shared_libs=libraries
        )

    def load(self, name: str) -> int:
        """The address of a function's C interface; compiles it on first use."""
        address = self._engine.raw_lookup(f"_mlir_ciface_{name}")
        if not address:
            raise MlirError(f"no function @{name} in the compiled module")
        return int(address)

    def call(self, name: str, *args: int) -> None:
        """Call ``name`` through its C interface; arguments are 64-bit words (pointers, indices)."""
        # What `load` gives takes one array of pointers to the arguments.
        words = (ctypes.c_int64 * len(args))(*args)
        start = ctypes.addressof(words)
        pointers = (ctypes.c_void_p * len(args))(*[start + 8 * i for i in range(len(args))])
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.load(name))(ctypes.addressof(pointers))
