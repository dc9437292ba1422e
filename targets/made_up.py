"""Inputs for timing, when none are given: ``Target.time`` takes sizes, not data.

Of integers, what bounds a loop divides the range evenly, and what indexes a tensor is spread over
it at random; floats are signed normal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ke_ir.expr import Expr, Var, evaluate_int, variables
from ke_ir.ir import For, Kernel, Module, Program, bind_call, statements
from ke_ir.ops import Load
from ke_ir.ops.base import Op

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Use:
    """``bound``: values are ends of ranges up to ``extent``; else indices below it."""

    extent: int
    bound: bool


def made_up_inputs(module: Module, program: Program, dims: Mapping[str, int]) -> dict[str, Array]:
    """Arrays for all inputs of ``program`` at ``dims``, in their declared dtypes."""
    import numpy as np

    rng = np.random.default_rng(1)
    integers = [p.name for p in program.inputs if p.type.dtype.is_int]
    out = control_inputs(module, program, dims, integers)
    for p in program.inputs:
        shape, d = p.type.sizes(dict(dims)), p.type.dtype
        if d.is_bool:
            out[p.name] = rng.random(shape) < 0.5
        elif d.is_float:
            out[p.name] = rng.standard_normal(shape, np.float32).astype(d.numpy())
    return out


def control_inputs(
    module: Module, program: Program, dims: Mapping[str, int], names: Iterable[str]
) -> dict[str, Array]:
    """Arrays for the inputs ``names`` of ``program`` at ``dims``, in their declared dtypes."""
    import numpy as np

    uses = _program_uses(module, program, dims)
    rng = np.random.default_rng(0)
    out: dict[str, Array] = {}
    x: Array
    for name in names:
        t = program.tensors[name]
        shape = t.sizes(dict(dims))
        found = uses.get(name, [])
        extent = min((u.extent for u in found), default=1)
        if t.dtype.is_float:
            x = np.sort(rng.standard_normal(shape), axis=-1 if shape else None)
        elif any(u.bound for u in found) and shape:
            parts = max(1, shape[-1] - 1)
            line = np.arange(shape[-1], dtype=np.int64) * extent // parts
            x = np.broadcast_to(line, shape)
        else:
            x = rng.integers(0, max(1, extent), shape)
        out[name] = np.ascontiguousarray(x.astype(t.dtype.numpy()))
    return out


def _program_uses(
    module: Module, program: Program, dims: Mapping[str, int]
) -> dict[str, list[_Use]]:
    found: dict[str, list[_Use]] = {}
    for call in program.calls:
        kernel = module.kernels[call.kernel]
        sizes = bind_call(program, call, kernel, dims)
        names = {p.name: v.tensor for p, v in zip(kernel.inputs, call.args, strict=True)}
        for tensor, use in _kernel_uses(kernel, sizes):
            if tensor in names:
                found.setdefault(names[tensor], []).append(use)
    return found


def _kernel_uses(kernel: Kernel, sizes: Mapping[str, int]) -> Iterator[tuple[str, _Use]]:
    """Tensors whose loaded values, or what is computed from them, decide a bound or an index."""
    source: dict[str, str] = {}
    for s in statements(kernel.body):
        if isinstance(s, Load) and s.result:
            source[s.result] = s.tensor
        elif isinstance(s, Op) and s.result:
            for x in s.operands():
                if isinstance(x, str) and x in source:
                    source.setdefault(s.result, source[x])
    for s in statements(kernel.body):
        if isinstance(s, For):
            for e in (s.var.lo, s.var.hi):
                for v in variables(e):
                    if v in source:
                        yield source[v], _Use(reach(kernel, s.var.name, sizes), bound=True)
        elif isinstance(s, Op):
            yield from _indexed(kernel, s, source, sizes)


def _indexed(
    kernel: Kernel, s: Op, source: Mapping[str, str], sizes: Mapping[str, int]
) -> Iterator[tuple[str, _Use]]:
    tensor = getattr(s, "tensor", None)
    if tensor is None:
        return
    shape: tuple[Expr, ...] = kernel.tensors[tensor].shape
    for c, size in zip(s.coordinates(), shape, strict=True):
        for v in variables(c):
            if v in source:
                yield source[v], _Use(evaluate_int(size, sizes), bound=False)


def reach(kernel: Kernel, loop: str, sizes: Mapping[str, int]) -> int:
    """How far a loop variable may go: the smallest tensor dimension that it indexes alone."""
    reach = [
        evaluate_int(size, sizes)
        for s in statements(kernel.body) if isinstance(s, Op) and s.coordinates()
        for c, size in zip(s.coordinates(), kernel.tensors[s.tensor].shape, strict=True)  # type: ignore[attr-defined]
        if isinstance(c, Var) and c.name == loop
    ]  # fmt: skip
    return min(reach, default=1)
