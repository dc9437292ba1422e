"""A user's Python file: the module or function that is named in it, and its example inputs."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ke_ir.diagnostics import Diagnostic, near
from ke_ir.importers.torch_export import ImportFailure, user_line


@dataclass(frozen=True)
class Problem:
    """A module (or function), and the positional arguments to call it with.

    ``inputs`` are made when they are first asked for; ``draw`` makes others. Both raise
    ImportFailure where the user's code fails.
    """

    path: Path
    module: Any
    get_inputs: Callable[[], Any]
    seed: int

    @cached_property
    def inputs(self) -> tuple[Any, ...]:
        """Those of the problem's own seed."""
        return self.draw(self.seed)

    def draw(self, seed: int) -> tuple[Any, ...]:
        """Inputs with random numbers drawn from ``seed``."""
        import torch

        with _user_code(self.path, "`get_inputs()`"):
            torch.manual_seed(seed)
            return tuple(self.get_inputs())


def load_problem(path: Path, name: str = "Model", seed: int = 0) -> Problem:
    """``name`` of a file, with ``get_inputs()`` and ``get_init_inputs()`` of the same file.

    A class is made with what ``get_init_inputs()`` gives (nothing without one); a function is taken
    as it is. Tensors that are plain attributes of a module become buffers. Random numbers are drawn
    from ``seed``. Raises ImportFailure. Runs the user's code: call it in a process of its own.
    """
    import torch

    with _user_code(path, "running the file"):
        space = _executed(path)
    if name not in space:
        defined = sorted(k for k, v in space.items() if callable(v) and not k.startswith("_"))
        raise _failure("name", f"`{path.name}` does not define `{name}`", path,
                       near(name, defined), defined)  # fmt: skip
    if "get_inputs" not in space:
        raise _failure("inputs", f"`{path.name}` does not define `get_inputs`", path,
                       "such as `def get_inputs(): return [torch.randn(8, 64)]`")  # fmt: skip
    target = space[name]
    if isinstance(target, type):
        with _user_code(path, f"making `{name}`"):
            torch.manual_seed(seed)
            given = space["get_init_inputs"]() if "get_init_inputs" in space else []
            torch.manual_seed(seed)
            target = target(**given) if isinstance(given, dict) else target(*given)
    if isinstance(target, torch.nn.Module):
        _with_buffers(target)
    return Problem(path, target, space["get_inputs"], seed)


def _with_buffers(module: Any) -> None:
    """Tensors that are plain attributes become buffers, which move and change with the module:
    `torch.export` refuses a module that writes to one that is not.
    """
    import torch

    for part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, torch.Tensor):
                delattr(part, name)
                part.register_buffer(name, value, persistent=False)


def _executed(path: Path) -> dict[str, Any]:
    """The names of a file; its folder is last on the path, so that nothing of ours is shadowed."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(f"ke_gen_user_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


@contextlib.contextmanager
def _user_code(path: Path, doing: str) -> Iterator[None]:
    try:
        yield
    except ImportFailure:
        raise
    except Exception as bad:
        line, file, code = user_line(traceback.format_exc())
        raise ImportFailure([Diagnostic(
            "user-code", f"{doing} failed: {type(bad).__name__}: {bad}", line, 1 if line else 0,
            text=code, file=file or str(path),
        )]) from bad  # fmt: skip


def _failure(
    code: str, message: str, path: Path, hint: str = "", expected: list[str] | None = None
) -> ImportFailure:
    return ImportFailure([Diagnostic(code, message, file=str(path), hint=hint,
                                     expected=tuple(expected or ()))])  # fmt: skip
