"""How precisely kernels compute, as the unit roundoffs that bound their errors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ke_ir.ir import For, Module, Parallel, Program
from ke_ir.ops import Accumulate, Binary, Cast, Dot, Full, Load, Op, Operand, Reduce, Scan, Stmt
from ke_ir.scope import TypeScope
from ke_ir.types import DType

SINGLE = DType.F32.unit_roundoff
PRECISION: dict[str, float] = {
    "ieee": 0.0,
    # Matrix units cut operands off after 10 bits; the interpreter and the simulator round them.
    "tf32": 2.0**-10,
    "tf32_even": 2.0**-10,
    # What the dropped products and the dropped low part amount to, relative to |a||b|.
    "tf32x3": 2.0**-22,
    "bf16x3": 2.0**-16,
    "bf16x6": 2.0**-23,
}
"""Relative error of one operand of a ``dot`` at each precision, beyond float32's own rounding."""

SPREAD = 5.0
SAFETY = 2.0


@dataclass(frozen=True)
class Rounding:
    """Unit roundoffs of a computation.

    ``intermediate``: of each elementwise result; ``operand``: of the operands of a product under a
    sum, when they are rounded for it; ``accumulation``: of each addition of a sum.
    """

    intermediate: float = SINGLE
    operand: float = 0.0
    accumulation: float = SINGLE

    def summation(self, terms: int) -> float:
        """Relative to the sum of magnitudes: the error of adding ``terms`` numbers.

        Roundings behave as independent and of mean zero, so that with probability at least
        1 - 2 exp(-SPREAD^2 / 2) per sum the error stays within SPREAD sqrt(n) u (Higham and Mary,
        "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 2019); n u
        bounds it always.
        """
        return min(float(terms), SPREAD * math.sqrt(terms)) * self.accumulation


def rounding_of(module: Module, program: Program) -> Rounding:
    """The least precise steps that a verified program takes between its inputs and its outputs.

    The rounding of the outputs themselves is not among them.
    """
    found = _Coarsest()
    for call in program.calls:
        kernel = module.kernels[call.kernel]
        found.sources = {}
        found.block(kernel.body, TypeScope(kernel))
    for t in program.temps.values():
        found.intermediate = max(found.intermediate, t.dtype.unit_roundoff)
    return Rounding(found.intermediate, found.operand, found.accumulation)


class _Coarsest:
    """Walks kernels and keeps the largest unit roundoff of each sort."""

    def __init__(self) -> None:
        self.intermediate = self.operand = self.accumulation = 0.0
        self.sources: dict[str, Op] = {}
        self.carried: frozenset[str] = frozenset()

    def block(self, body: Iterable[Stmt], scope: TypeScope) -> None:
        for s in body:
            if isinstance(s, Op):
                t = scope.define(s)
                self.op(s, scope, t.dtype.unit_roundoff if t is not None else 0.0)
                if s.result is not None:
                    self.sources[s.result] = s
            elif isinstance(s, For | Parallel):
                scope.enter(s)
                around = self.carried
                if isinstance(s, For):
                    self.carried = around | {name for name, _ in s.carries}
                self.block(s.body, scope)
                self.carried = around
                scope.leave(s)

    def op(self, s: Op, scope: TypeScope, u: float) -> None:
        if isinstance(s, Dot):
            self.accumulation = max(self.accumulation, u)
            self.operand = max(
                self.operand, PRECISION[s.precision], *(self.computed(x, scope) for x in (s.a, s.b))
            )
        elif isinstance(s, Accumulate):
            self.accumulation = max(self.accumulation, scope.tensor(s.tensor).dtype.unit_roundoff)
        elif s.family in ("elementwise", "combine"):
            inputs = max((self.computed(x, scope) for x in s.operands()), default=0.0)
            own = 0.0 if isinstance(s, Cast) else u
            self.intermediate = max(self.intermediate, inputs, own)
            if isinstance(s, Reduce | Scan) and s.kind in ("sum", "prod"):
                self.accumulation = max(self.accumulation, u)
            sums = isinstance(s, Binary) and s.fn in ("add", "sub", "mul")
            if sums and self.carried & {x for x in s.operands() if isinstance(x, str)}:
                # A sum or product that a loop carries from one step to the next.
                self.accumulation = max(self.accumulation, u)

    def computed(self, x: Operand, scope: TypeScope) -> float:
        """Unit roundoff of a value that was rounded on its way; 0 for what memory held."""
        while isinstance(x, str):
            source = self.sources.get(x)
            if isinstance(source, Load | Full):
                return 0.0
            if source is None or source.family != "shape":
                t = scope.type_of(x)
                return t.dtype.unit_roundoff if t is not None else 0.0
            x = source.operands()[0]
        return 0.0
