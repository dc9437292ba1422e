"""How much work a program is at given sizes: what a checker will have to do, before it starts.

These figures choose the sizes of a check. They are never reported as times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ke_ir.expr import Call, Expr, Var, evaluate_int, rewrite
from ke_ir.ir import For, KernelCall, LoopVar, Once, Parallel, Repeat, bind_call
from ke_ir.ops import Dot
from ke_ir.ops.base import Op, Stmt
from ke_ir.scope import TypeScope

if TYPE_CHECKING:
    from ke_ir.ir import Kernel, Module, Program, ProgramStmt

_DATA_DEPENDENT_TRIPS = 4
_BLAS_ADVANTAGE = 32
"""How many multiply-adds of a matrix product cost as much as one elementwise operation."""


@dataclass(frozen=True)
class Work:
    """``steps`` statements executed, on ``elements`` tile elements in all."""

    steps: float = 0.0
    elements: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.steps + other.steps, self.elements + other.elements)

    def times(self, n: float) -> Work:
        return Work(self.steps * n, self.elements * n)


@dataclass(frozen=True)
class Checker:
    """What runs the kernel in a check: seconds a step and an element take, and the time it has.

    The rates are rounded figures for one core of a current machine; a factor of two either way
    only moves the sizes of the check.
    """

    seconds_per_step: float
    seconds_per_element: float
    budget_seconds: float

    def seconds(self, work: Work) -> float:
        return work.steps * self.seconds_per_step + work.elements * self.seconds_per_element

    def affords(self, work: Work) -> bool:
        return self.seconds(work) <= self.budget_seconds


FLOAT64 = Checker(15e-6, 4e-9, 0.3)
"""The float64 interpreter of KE-IR."""
INTERPRETED = Checker(200e-6, 10e-9, 2.0)
"""Triton's interpreter."""
SIMULATED = Checker(3e-6, 4e-9, 1.0)
"""Compiled code against a functional simulator."""
DEVICE = Checker(0.0, 4e-9, 2.0)
"""A real device. What takes the time then is the float64 reference on the host."""

_PER_TENSOR_ELEMENT = 25
"""Making an input, or evaluating and comparing an output, in elementwise operations."""


def program_work(module: Module, program: Program, dims: Mapping[str, int]) -> Work:
    """Work of checking a whole program at these sizes of its dims, inputs and reference too."""
    tensors = (*program.inputs, *program.outputs)
    data = sum(math.prod(p.type.sizes(dict(dims))) for p in tensors)
    body = _program_body(module, program, program.body, dims)
    return body + Work(0, _PER_TENSOR_ELEMENT * data)


def _program_body(
    module: Module, program: Program, body: Sequence[ProgramStmt], dims: Mapping[str, int]
) -> Work:
    total = Work()
    for s in body:
        if isinstance(s, Repeat):
            inner = _program_body(module, program, s.body, {**dims, s.var: 0})
            total += inner.times(_trips(s.lo, s.hi, 1, dims))
        elif isinstance(s, Once):
            total += _program_body(module, program, s.body, dims)
        elif isinstance(s, KernelCall):
            kernel = module.kernels[s.kernel]
            total += _KernelWork(kernel, bind_call(program, s, kernel, dims)).total()
    return total


class _KernelWork:
    """Walks one kernel's body with the types of its values at hand."""

    def __init__(self, kernel: Kernel, dims: Mapping[str, int]) -> None:
        self.kernel, self.dims, self.scope = kernel, dims, TypeScope(kernel)

    def total(self) -> Work:
        return self._body(self.kernel.body)

    def _body(self, body: Sequence[Stmt]) -> Work:
        total = Work()
        for s in body:
            if isinstance(s, For | Parallel):
                loops = (s.var,) if isinstance(s, For) else s.vars
                trips = math.prod(self._loop_trips(v) for v in loops)
                self.scope.enter(s)
                total += self._body(s.body).times(trips)
                self.scope.leave(s)
            elif isinstance(s, Op):
                total += Work(1, self._elements(s))
        return total

    def _elements(self, s: Op) -> float:
        made = self.scope.define(s)
        if isinstance(s, Dot) and made is not None:
            a = self.scope.type_of(s.a)
            assert a is not None
            return made.elements * a.shape[-1] / _BLAS_ADVANTAGE
        sizes = [t.elements for x in s.operands() if (t := self.scope.type_of(x)) is not None]
        return float(max([*sizes, made.elements if made else 1]))

    def _loop_trips(self, v: LoopVar) -> int:
        return _trips(self._furthest(v.lo, False), self._furthest(v.hi, True), v.step, self.dims)

    def _furthest(self, bound: Expr, high: bool) -> Expr:
        """A bound that holds loop variables, with each replaced by an end of its own range."""

        def end(n: Expr) -> Expr | None:
            if isinstance(n, Call) and n.fn in ("begin", "end"):
                return n.args[0]
            if isinstance(n, Var) and n.name in self.scope.loops:
                loop = self.scope.loops[n.name]
                return self._furthest(loop.hi if high else loop.lo, high)
            return None

        return rewrite(bound, end)


def _trips(lo: Expr, hi: Expr, step: int, dims: Mapping[str, int]) -> int:
    """Iterations of a loop; a guess where its bounds are read from memory."""
    try:
        return max(0, -(-(evaluate_int(hi, dims) - evaluate_int(lo, dims)) // step))
    except (ValueError, KeyError):
        return _DATA_DEPENDENT_TRIPS
