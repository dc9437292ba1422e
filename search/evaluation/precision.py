"""The precision that a program computes in, as its IR says, and where that is below its op's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ke_ir.ir import For, Parallel
from ke_ir.ops import Dot
from ke_ir.ops.base import Op, Stmt
from ke_ir.scope import TypeScope
from ke_ir.types import DType
from lowering.count import DOT_FORMATS, DOT_PARTS
from search.evaluation.parts import parts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ke_ir.ir import Kernel, Module, Program, Signature

_DOT_ROUNDOFF = {"tf32": 2.0**-10, "tf32_even": 2.0**-10, "tf32x3": 2.0**-22,
                 "bf16x3": 2.0**-16, "bf16x6": 2.0**-24}  # fmt: skip
"""Relative error of one product of f32 operands at each precision below ``ieee``."""


@dataclass(frozen=True)
class Precision:
    """``lowest`` is the float dtype of least precision that any value has, ``dot`` the least
    precise product of f32 operands (empty without one). ``formats`` are (matrix format, products
    for one) of each ``dot``. ``lower`` names what is below the op's own dtypes.
    """

    lowest: DType
    dot: str
    formats: tuple[tuple[str, int], ...]
    lower: tuple[str, ...]


def precision_of(module: Module, program: Program, contract: Signature) -> Precision:
    """The precision of all kernels that ``program`` calls; ``contract`` is its op (or itself)."""
    dots: set[tuple[DType, str]] = set()
    parts = parts_of(module, program)
    values: set[DType] = {t.dtype for n, t in program.temps.items() if n not in parts.temps}
    for name in dict.fromkeys(call.kernel for call in program.calls):
        for value, dtype, product in _walk(module.kernels[name]):
            if (name, value) in parts.values:
                continue
            values.add(dtype)
            word = parts.products.get((name, value))
            if word:
                dots.add((DType.F32, word))
            elif product is not None and word is None:
                dots.add(product)
    floats = {d for d in values if d.is_float}
    declared = [p.type.dtype for p in (*contract.inputs, *contract.outputs)]
    own = max((d.unit_roundoff for d in declared if d.is_float), default=0.0)
    lowest = max(floats, key=lambda d: d.unit_roundoff, default=DType.F64)
    products = {p for d, p in dots if d is DType.F32 and p in _DOT_ROUNDOFF}
    dot = max(sorted(products), key=_DOT_ROUNDOFF.__getitem__, default="")
    lower = [f"values in {d}" for d in sorted(floats, key=str) if d.unit_roundoff > own]
    lower += [f"dot at {p}" for p in sorted(products) if _DOT_ROUNDOFF[p] > own]
    return Precision(lowest, dot, _formats(dots), tuple(lower))


def _formats(dots: set[tuple[DType, str]]) -> tuple[tuple[str, int], ...]:
    found = set()
    for dtype, precision in dots:
        if precision == "ieee":
            found.add((DOT_FORMATS.get(dtype, "f32"), 1))
        else:
            found.add(DOT_PARTS[precision])
    return tuple(sorted(found))


def _walk(kernel: Kernel) -> Iterator[tuple[str, DType, tuple[DType, str] | None]]:
    """Each value and its dtype, with operand dtype and precision where a ``dot`` makes it."""
    scope = TypeScope(kernel)

    def go(body: Sequence[Stmt]) -> Iterator[tuple[str, DType, tuple[DType, str] | None]]:
        for s in body:
            if isinstance(s, For | Parallel):
                scope.enter(s)
                yield from go(s.body)
                scope.leave(s)
            elif isinstance(s, Op):
                made = scope.define(s)
                if made is None:
                    continue
                operand = scope.type_of(s.a) if isinstance(s, Dot) else None
                dot = (operand.dtype, s.precision) if isinstance(s, Dot) and operand else None
                yield str(s.result), made.dtype, dot

    return go(kernel.body)
