"""Runs a module in PyTorch, in its own dtypes and in float64. Used in worker processes only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from ke_ir.numerics import AT_ONCE
from search.kernelbench.draws import Draws
from targets.gpu.compare import compare

Tensors = dict[str, torch.Tensor]

_SIGNED_SEED = 4242


@dataclass(frozen=True)
class Given:
    """What a run of a module gave: its outputs (flattened, in order) and its buffers after it.

    ``draws`` are the random numbers that it drew on the way, in their order.
    """

    outputs: list[Any]
    buffers: Tensors
    draws: list[torch.Tensor]

    def tensors(self, results: Sequence[Any]) -> Tensors:
        """By output of the op. ``results``: ``(name, source, position, path)`` of each."""
        return {
            r.name: self.buffers[r.path] if r.source == "buffer" else self.outputs[r.position]
            for r in results
        }


def tensors(values: Any) -> list[torch.Tensor]:
    """All tensors in a structure of tuples, lists and mappings, in order."""
    return [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def mapped(values: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same structure with its tensors changed."""
    return pytree.tree_map(lambda x: change(x) if isinstance(x, torch.Tensor) else x, values)


def doubled(x: torch.Tensor) -> torch.Tensor:
    """A floating tensor in float64, others as they are."""
    return x.to(torch.float64) if x.is_floating_point() else x


def run(
    module: torch.nn.Module, inputs: Sequence[Any], draws: Sequence[torch.Tensor] | None = None
) -> Given:
    """Without gradients; the buffers are put back as they were.

    With ``draws``, those of another run, the module draws the same numbers; otherwise new ones.
    """
    with state_kept(module), torch.no_grad():
        with Draws(draws) as drawn:
            outputs = pytree.tree_leaves(module(*inputs))
        after = {name: b.clone() for name, b in module.named_buffers()}
    return Given(outputs, after, drawn.noted)


@contextmanager
def state_kept(module: torch.nn.Module) -> Iterator[None]:
    """What is done with the module leaves its buffers as they were: the same tensors, too."""
    before = [
        (part, name, buffer, buffer.clone())
        for part in module.modules()
        for name, buffer in part.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for part, name, buffer, value in before:
                setattr(part, name, buffer.copy_(value))


def run_float64(
    module: torch.nn.Module, inputs: Sequence[Any], draws: Sequence[torch.Tensor] | None = None
) -> Given:
    """The same on the same values in float64. The module is as it was afterwards."""
    with _widened(module):
        return run(module, mapped(tuple(inputs), doubled), draws)


class _WideWhereRead(TorchFunctionMode):  # type: ignore[misc]
    """While on, each function gets these parameters in float64, and nobody keeps them so. A linear
    layer, which is where most weights are, gets them piece by piece.
    """

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self._places = {x.untyped_storage().data_ptr() for x in parameters}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Do what was asked in float64. An attribute is read without making anything wide."""
        if func == torch.Tensor.dtype.__get__ and self._narrow(args[0]):
            return torch.float64
        if func is functional.linear and len(args) > 1 and self._narrow(args[1]):
            return _linear(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") != "__get__":
            args, kwargs = mapped((args, kwargs), self._wide)
        return func(*args, **(kwargs or {}))

    def _narrow(self, x: torch.Tensor) -> bool:
        """Whether it is one of these, or a view of one."""
        return x.dtype != torch.float64 and x.untyped_storage().data_ptr() in self._places

    def _wide(self, x: torch.Tensor) -> torch.Tensor:
        return x.double() if self._narrow(x) else x


def _linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """The layer in float64, with some rows of the weight at a time."""
    rows = max(1, AT_ONCE // weight.shape[1])
    parts = [functional.linear(x, some.double()) for some in weight.split(rows)]
    out = torch.cat(parts, -1)
    return out if bias is None else out + bias


@contextmanager
def _widened(module: torch.nn.Module) -> Iterator[None]:
    """The module in float64, and the tensors that it makes.

    In place, one tensor after the other; going back is exact. Large weights, which may be of
    gigabytes, stay as they are and are widened where they are read.
    """
    large = [x for x in module.parameters() if x.numel() > AT_ONCE and x.is_floating_point()]
    left = {id(x) for x in large}
    kept = [*module.parameters(), *module.buffers()]
    changed = [(x, x.dtype) for x in kept if x.is_floating_point() and id(x) not in left]
    usual = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        for x, _ in changed:
            x.data = x.data.double()
        with _WideWhereRead(large) if large else nullcontext():
            yield
    finally:
        torch.set_default_dtype(usual)
        for x, dtype in changed:
            x.data = x.data.to(dtype)
        for part in module.modules():
            if isinstance(part, torch.nn.RNNBase):
                # In one piece again, as a device wants them: eager is timed later.
                part.flatten_parameters()


def errors(given: Given, exact: Given) -> list[dict[str, Any]]:
    """What ``targets.gpu.compare`` says of each output, and of each buffer, against float64."""
    pairs = [*zip(given.outputs, exact.outputs, strict=True)]
    pairs += [(x, exact.buffers[name]) for name, x in given.buffers.items()]
    return [compare(mine, want) for mine, want in pairs if isinstance(mine, torch.Tensor)]


def signed(inputs: Any) -> Any:
    """The same inputs with signed normal values in place of every float: they hide nothing.

    They are from a seed of their own, so that they are others than the file's.
    """
    torch.manual_seed(_SIGNED_SEED)
    return mapped(inputs, lambda x: torch.randn_like(x) if x.is_floating_point() else x)
