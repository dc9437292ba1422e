"""A value stored by one kernel and loaded by a second, in place of computing it there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from ke_ir.expr import Var, variables
from ke_ir.ir import For, Kernel, LoopVar, Module, Parallel, Param, Temp
from ke_ir.ops import Cast, Dot, Load, Reduce, Store
from ke_ir.ops.base import Op
from ke_ir.rewrites import base
from ke_ir.rewrites.base import NoMatch, Rewrite, register_rewrite, value
from ke_ir.rewrites.body import Facts, Path, facts, splice
from ke_ir.rewrites.inline import slice_of
from ke_ir.rewrites.names import Fresh, used_in
from ke_ir.rewrites.programs import in_sequence
from ke_ir.rewrites.temporaries import beyond_counts, coordinates_of, part_of
from ke_ir.rewrites.tidy import alive
from ke_ir.types import TensorType


@register_rewrite
@dataclass(frozen=True)
class Materialise(Rewrite):
    """Compute a value for all indices in a kernel of its own, and load it where it was computed.

    The inverse of ``fuse``: memory traffic in exchange for work that several iterations repeat, or
    for tiles that suit each part.

    ``materialise(@total, %e)``

    Before:

    ```
    kernel @total(%x: f32[B, D]) -> (%y: f32[B])
    dims B = 5, D = 12
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %s = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f32[2, 4]
          %e = tanh %v
          %r = reduce sum %e dim 1
          %t = add %acc, %r
          yield %t
        }
        store %s, %y[%b]
      }
    }
    ```

    After:

    ```
    kernel @total_e(%x: f32[B, D]) -> (%e_all: f32[B, D])
    dims B = 5, D = 12
    {
      parallel %b = 0 to B tile 2, %d = 0 to D tile 4 {
        %v = load %x[%b, %d] : f32[2, 4]
        %e = tanh %v
        store %e, %e_all[%b, %d]
      }
    }
    kernel @total_rest(%e_all: f32[B, D]) -> (%y: f32[B])
    dims B = 5, D = 12
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %s = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %e = load %e_all[%b, %d] : f32[2, 4]
          %r = reduce sum %e dim 1
          %t = add %acc, %r
          yield %t
        }
        store %s, %y[%b]
      }
    }
    program @total(%x: f32[B, D]) -> (%y: f32[B])
    dims B = 5, D = 12
    {
      temp %e_all : f32[B, D]
      call @total_e(%x) -> (%e_all)
      call @total_rest(%e_all) -> (%y)
    }
    ```
    """

    name = "materialise"
    kernel: str = base.kernel()
    value: str = value()

    def apply(self, module: Module) -> Module | NoMatch:
        k = module.kernels.get(self.kernel)
        if k is None:
            return NoMatch(f"there is no kernel @{self.kernel}")
        f = facts(k)
        s = f.definitions.get(self.value)
        if s is None or isinstance(s, Load) or (isinstance(s, For) and s.results != (self.value,)):
            return NoMatch(f"@{k.name} computes no value %{self.value} that can stand alone")
        if not f.types[self.value].dtype.is_float:
            return NoMatch(f"%{self.value} is {f.types[self.value]}, not a float")
        path = f.places[self.value]
        after = (*path[:-1], path[-1] + 1)
        work = slice_of(k, after, self.value)
        order = self._loops(f, path, used_in(work))
        if isinstance(order, NoMatch):
            return order
        t = f.types[self.value]
        shape = tuple(v.hi for v in order)
        temp = Param(Fresh(k)(f"{self.value}_all"), TensorType(t.dtype, shape))
        coords = tuple(Var(v.name) for v in order)
        body = Parallel(tuple(order), (*work, Store(self.value, temp.name, coords)))
        first = part_of(module, k, self.value, body, k.inputs, (temp,))
        for fill in (0, -math.inf, math.inf, 1):
            load = Load(temp.name, coords, t, fill, result=self.value)
            changed = facts(alive(splice(k, path, (load,)))).parallel
            second = part_of(module, k, "rest", changed, (*k.inputs, temp), k.outputs)
            why = beyond_counts(k, second, order)
            if not why:
                return in_sequence(module, k.name, (first, second), (Temp(temp.name, temp.type),))
        return NoMatch(why)

    def _loops(self, f: Facts, path: Path, used: set[str]) -> list[LoopVar] | NoMatch:
        """The loops around the value on which it depends, as its coordinates."""
        around: list[LoopVar] = []
        for s in f.enclosing(path):
            if isinstance(s, For) and (carried := used & {n for n, _ in s.carries}):
                return NoMatch(f"%{self.value} depends on %{min(carried)}, which is carried")
            around += [s.var] if isinstance(s, For) else s.vars
        found = [v for v in around if v.name in used]
        if not found:
            return NoMatch(f"%{self.value} is the same everywhere")
        if bad := next((v for v in found if variables(v.lo) or variables(v.hi)), None):
            return NoMatch(f"the range of %{bad.name} differs from program to program")
        return coordinates_of(f.kernel, self.value, found)

    @classmethod
    def applicable(cls, module: Module) -> Iterator[Self]:
        for k in module.kernels.values():
            for n in _worth_storing(k):
                made = cls(k.name, n)
                if not isinstance(made.apply(module), NoMatch):
                    yield made


def _worth_storing(k: Kernel) -> Iterator[str]:
    """Products and results of loops inside loops, and what is computed from a load for them."""
    f = facts(k)
    for path, s in f.statements:
        if len(path) > 2 and isinstance(s, Dot):
            yield from (str(x) for x in (s.a, s.b) if _computed(f, str(x)))
            if s.acc is None:
                yield str(s.result)
        elif len(path) > 2 and isinstance(s, Reduce) and _computed(f, str(s.x)):
            yield str(s.x)
        elif len(path) > 2 and isinstance(s, For):
            yield from s.results


def _computed(f: Facts, x: str) -> bool:
    s = f.definitions.get(x)
    return isinstance(s, Op) and s.family == "elementwise" and not isinstance(s, Cast)
