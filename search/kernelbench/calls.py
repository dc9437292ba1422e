"""Notes which functions of PyTorch a module calls. Used in worker processes only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_PRODUCTS = ("matmul", "bmm", "einsum", "__matmul__", "__rmatmul__", "baddbmm")


class Calls(TorchFunctionMode):  # type: ignore[misc]
    """While on, notes the names of all functions of PyTorch that are called.

    ``products`` counts those that multiply two tensors of which neither is a parameter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.products = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Note the name, and do what was asked."""
        name = getattr(func, "__name__", "")
        self.names.add(name)
        if name in _PRODUCTS and not any(_parameter(x) for x in args):
            self.products += 1
        return func(*args, **(kwargs or {}))


def _parameter(x: Any) -> bool:
    return isinstance(x, torch.nn.Parameter) or (
        isinstance(x, torch.Tensor) and x._is_view() and isinstance(x._base, torch.nn.Parameter)
    )
