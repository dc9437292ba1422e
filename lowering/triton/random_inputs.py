"""Inputs for a generated file's own check: normal floats, indices that stay inside tensors."""

from __future__ import annotations

from collections.abc import Mapping

from ke_ir.expr import Expr, Reduce, Ref, Var, evaluate_int, walk
from ke_ir.ir import OpDef, Param
from ke_ir.ranges import infer_ranges
from ke_ir.types import DType
from lowering.triton.values import Carriers


def random_inputs(op: OpDef, sizes: Mapping[str, int], carriers: Carriers) -> list[str]:
    """One Python expression for each input, in order."""
    found = infer_ranges(op)
    limits: dict[str, int] = {}
    ends: dict[str, int] = {}
    for er in found.equations:
        for n in walk(er.equation.rhs):
            if isinstance(n, Ref):
                for index, size in zip(n.indices, found.shapes[n.tensor], strict=True):
                    _limit(index, evaluate_int(size, sizes), limits)
            elif isinstance(n, Reduce):
                _ends(n, found.shapes, sizes, ends)
    return [_one(p, sizes, carriers, limits, ends) for p in op.inputs]


def _limit(index: Expr, size: int, limits: dict[str, int]) -> None:
    """An element used as a subscript stays below the size of that dimension."""
    for n in walk(index):
        if isinstance(n, Ref):
            limits[n.tensor] = min(size, limits.get(n.tensor, size))


def _ends(
    e: Reduce,
    shapes: Mapping[str, tuple[Expr, ...]],
    sizes: Mapping[str, int],
    ends: dict[str, int],
) -> None:
    """A tensor of offsets grows from 0 to the size of what its range subscripts."""
    for r in e.ranges:
        names = [n.tensor for b in (r.lo, r.hi) if b is not None
                 for n in walk(b) if isinstance(n, Ref)]  # fmt: skip
        for n in walk(e.body):
            if isinstance(n, Ref):
                for index, size in zip(n.indices, shapes[n.tensor], strict=True):
                    if isinstance(index, Var) and index.name == r.name:
                        ends.update(dict.fromkeys(names, evaluate_int(size, sizes)))


def _one(
    p: Param,
    sizes: Mapping[str, int],
    carriers: Carriers,
    limits: Mapping[str, int],
    ends: Mapping[str, int],
) -> str:
    shape = p.type.sizes(dict(sizes))
    dtype = carriers.torch(p.type.dtype)
    if p.name in ends and len(shape) == 1:
        return f"torch.linspace(0, {ends[p.name]}, {shape[0]}, device=device).to({dtype})"
    if p.type.dtype is DType.I1:
        return f"torch.rand({shape}, device=device) < 0.5"
    if p.type.dtype.is_int:
        low, high = (0, limits[p.name]) if p.name in limits else (0 if p.type.dtype is DType.U8
                                                                  else -8, 8)  # fmt: skip
        return f"torch.randint({low}, {high}, {shape}, device=device, dtype={dtype})"
    return f"torch.randn({shape}, device=device).to({dtype})"
