"""More parallelism from a long reduction: parts of it side by side, then their total."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from ke_ir.expr import Bin, Call, Expr, Num, Var, evaluate_int, variables
from ke_ir.ir import For, Kernel, LoopVar, Module, Parallel, Param, Temp, Yield
from ke_ir.ops import Accumulate, Binary, Full, Load, Store
from ke_ir.ops.base import Stmt
from ke_ir.rewrites.base import (
    KernelRewrite,
    NoMatch,
    Rewrite,
    integer,
    kernel,
    loop,
    register_rewrite,
)
from ke_ir.rewrites.body import Facts, LoopSite, facts
from ke_ir.rewrites.carries import COMBINES, Carries, Carry, reduction_of
from ke_ir.rewrites.names import Fresh
from ke_ir.rewrites.padding import neutral
from ke_ir.rewrites.programs import in_sequence
from ke_ir.rewrites.temporaries import beyond_counts, coordinates_of, part_of
from ke_ir.rewrites.tidy import writes
from ke_ir.types import TensorType

PARTS = (2, 4, 8, 16, 32)
PROGRAMS = 512
"""Kernels with more parallel iterations than this, at the default sizes, are not offered parts."""
ADDED = {"sum": "add", "max": "max", "min": "min"}
"""``accumulate`` kinds by reduction."""


@dataclass(frozen=True)
class Split:
    """A reduction over a loop of the kernel's own block that can be done in parts."""

    kernel: Kernel
    site: LoopSite
    loop: For
    found: tuple[Carry, ...]

    @property
    def outer(self) -> Parallel:
        return facts(self.kernel).parallel

    def around(self) -> tuple[tuple[Stmt, ...], tuple[Stmt, ...]]:
        """The statements before and after the loop."""
        i = self.site.path[-1]
        return self.outer.body[:i], self.outer.body[i + 1 :]

    def of_parts(self, parts: int, fresh: Fresh) -> tuple[LoopVar, For]:
        """The variable that counts parts, and the loop over one part, a whole number of tiles."""
        v = self.site.var
        part = LoopVar(fresh("part"), Num(0), Num(parts))
        length = _chunk(v.hi, parts, v.step)
        lo = Bin("*", Var(part.name), length)
        hi = Call("min", (Bin("+", lo, length), v.hi))
        return part, replace(self.loop, var=replace(v, lo=lo, hi=hi))


def _chunk(hi: Expr, parts: int, step: int) -> Expr:
    """Indices of one part: whole tiles, no fewer than a ``parts``-th of all."""
    size = parts * step
    if isinstance(hi, Num):
        return Num(-(-int(hi.value) // size) * step)
    return Bin("*", Bin("//", Bin("+", hi, Num(size - 1)), Num(size)), Num(step))


def split_of(k: Kernel, name: str, parts: int) -> Split | NoMatch:
    """The reduction over loop ``name``, if its parts can be computed apart."""
    f = facts(k)
    site = f.loops.get(name)
    if site is None or not isinstance(site.loop, For):
        return NoMatch(f"@{k.name} has no sequential loop %{name}")
    if parts < 2:
        return NoMatch(f"{parts} parts")
    if len(site.path) != 2:
        return NoMatch(f"%{name} is inside another loop")
    if site.var.lo != Num(0) or variables(site.var.hi):
        return NoMatch(f"the range of %{name} differs from program to program")
    if writes(site.loop) or not site.loop.carries:
        return NoMatch(f"the loop %{name} does not carry a reduction")
    axis = f.axes.of_loop(name)
    if axis is None:
        return NoMatch(f"%{name} is not tiled")
    found = reduction_of(f, site, axis)
    if isinstance(found, NoMatch):
        return found
    if other := _other(found):
        return NoMatch(f"%{other} is not a plain reduction")
    return Split(k, site, site.loop, tuple(found.found))


def _other(found: Carries) -> str:
    return next((c.name for c in found.found if c.kind not in COMBINES), "")


def offered(k: Kernel) -> Iterator[tuple[str, int]]:
    """Loops long enough for parts, and numbers of parts, where programs are few."""
    f = facts(k)
    sizes = k.sizes()
    programs = 1
    for v in f.parallel.vars:
        programs *= _trips(v, sizes) or 1
    for name, site in f.loops.items():
        trips = _trips(site.var, sizes)
        if programs <= PROGRAMS and isinstance(site.loop, For) and trips is not None:
            yield from ((name, n) for n in PARTS if 2 * n <= trips)


def _trips(v: LoopVar, sizes: dict[str, int]) -> int | None:
    try:
        return -(-(evaluate_int(v.hi, sizes) - evaluate_int(v.lo, sizes)) // v.step)
    except (KeyError, ValueError):
        return None


@register_rewrite
@dataclass(frozen=True)
class SplitAccumulate(KernelRewrite):
    """Compute parts of a reduction in parallel, each added to the output by ``accumulate``.

    For kernels that store the result of the loop as it is. The order of additions is not fixed, so
    that two runs may differ in rounding.

    ``split_accumulate(@total, %d, 2)``

    Before:

    ```
    kernel @total(%x: f32[B, D]) -> (%y: f32[B])
    dims B = 4, D = 22
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %s = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f32[2, 4]
          %r = reduce sum %v dim 1
          %t = add %acc, %r
          yield %t
        }
        store %s, %y[%b]
      }
    }
    ```

    After:

    ```
    kernel @total(%x: f32[B, D]) -> (%y: f32[B])
    dims B = 4, D = 22
    {
      parallel %part = 0 to 2, %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %s = for %d = %part * ((D + 7) // 8 * 4) to min(%part * ((D + 7) // 8 * 4) + (D + 7) // 8 * 4, D) tile 4 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f32[2, 4]
          %r = reduce sum %v dim 1
          %t = add %acc, %r
          yield %t
        }
        accumulate add %s, %y[%b]
      }
    }
    ```
    """  # noqa: E501

    name = "split_accumulate"
    loop: str = loop()
    parts: int = integer()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        split = split_of(k, self.loop, self.parts)
        if isinstance(split, NoMatch):
            return split
        before, after = split.around()
        if any(writes(s) for s in before):
            return NoMatch("the kernel writes before the loop")
        by_result = {c.result: c for c in split.found}
        out: list[Stmt] = []
        for s in after:
            c = by_result.get(s.x) if isinstance(s, Store) and isinstance(s.x, str) else None
            if not isinstance(s, Store) or c is None or c.kind not in ADDED:
                return NoMatch(f"what %{self.loop} gives is not stored as it is")
            if not _starts_neutral(facts(k), c):
                return NoMatch(f"%{c.name} does not start from the neutral element")
            out.append(Accumulate(ADDED[c.kind], s.x, s.tensor, s.coords))
        part, inner = split.of_parts(self.parts, Fresh(k))
        p = split.outer
        vars_ = (part, *p.vars)
        return replace(k, body=(replace(p, vars=vars_, body=(*before, inner, *out)),))

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        for name, parts in offered(k):
            made = cls(k.name, name, parts)
            if not isinstance(made.change(k), NoMatch):
                yield made


def _starts_neutral(f: Facts, c: Carry) -> bool:
    s = f.definitions.get(str(c.init))
    return isinstance(s, Full) and s.value == neutral(c.kind, s.type.dtype)


@register_rewrite
@dataclass(frozen=True)
class SplitReduction(Rewrite):
    """Compute parts of a reduction in parallel in one kernel, and combine them in a second.

    What follows the reduction moves to the second kernel; partial results are kept in the dtype in
    which they are accumulated.

    ``split_reduction(@norm, %d, 2)``

    Before:

    ```
    kernel @norm(%x: f32[B, D]) -> (%y: f32[B])
    dims B = 4, D = 22
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %s = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f32[2, 4]
          %r = reduce sum %v dim 1
          %t = add %acc, %r
          yield %t
        }
        %e = sqrt %s
        store %e, %y[%b]
      }
    }
    ```

    After:

    ```
    kernel @norm_parts(%x: f32[B, D]) -> (%s_parts: f32[2, B])
    dims B = 4, D = 22
    {
      parallel %part = 0 to 2, %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %s = for %d = %part * ((D + 7) // 8 * 4) to min(%part * ((D + 7) // 8 * 4) + (D + 7) // 8 * 4, D) tile 4 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f32[2, 4]
          %r = reduce sum %v dim 1
          %t = add %acc, %r
          yield %t
        }
        store %s, %s_parts[%part, %b]
      }
    }
    kernel @norm_total(%s_parts: f32[2, B]) -> (%y: f32[B])
    dims B = 4, D = 22
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %s = for %part = 0 to 2 carry (%acc = %zero) {
          %v = load %s_parts[%part, %b] : f32[2]
          %t = add %acc, %v
          yield %t
        }
        %e = sqrt %s
        store %e, %y[%b]
      }
    }
    program @norm(%x: f32[B, D]) -> (%y: f32[B])
    dims B = 4, D = 22
    {
      temp %s_parts : f32[2, B]
      call @norm_parts(%x) -> (%s_parts)
      call @norm_total(%s_parts) -> (%y)
    }
    ```
    """  # noqa: E501

    name = "split_reduction"
    kernel: str = kernel()
    loop: str = loop()
    parts: int = integer()

    def apply(self, module: Module) -> Module | NoMatch:
        k = module.kernels.get(self.kernel)
        if k is None:
            return NoMatch(f"there is no kernel @{self.kernel}")
        split = split_of(k, self.loop, self.parts)
        if isinstance(split, NoMatch):
            return split
        got = _Parts(split, self.parts).run(module)
        if isinstance(got, NoMatch):
            return got
        first, second, temps = got
        return in_sequence(module, self.kernel, (first, second), temps)

    @classmethod
    def applicable(cls, module: Module) -> Iterator[Self]:
        for k in module.kernels.values():
            for name, parts in offered(k):
                made = cls(k.name, name, parts)
                if not isinstance(made.apply(module), NoMatch):
                    yield made


class _Parts:
    def __init__(self, split: Split, parts: int) -> None:
        self.split, self.parts, self.k = split, parts, split.kernel
        self.f = facts(self.k)
        self.fresh = Fresh(self.k)

    def run(self, module: Module) -> tuple[Kernel, Kernel, list[Temp]] | NoMatch:
        before, after = self.split.around()
        if any(writes(s) for s in before):
            return NoMatch("the kernel writes before the loop")
        part, inner = self.split.of_parts(self.parts, self.fresh)
        starts: list[Stmt] = []
        stores: list[Stmt] = []
        loads: list[Stmt] = []
        params: list[Param] = []
        carries: list[tuple[str, str | int | float | bool]] = []
        yields: list[str] = []
        for i, c in enumerate(self.split.found):
            t = self.f.types[c.result]
            order = coordinates_of(self.k, c.result, self.split.outer.vars)
            if isinstance(order, NoMatch):
                return order
            if not _starts_neutral(self.f, c):
                value = neutral(c.kind, t.dtype)
                assert value is not None
                start = Full(float(value) if t.dtype.is_float else value, t,
                             result=self.fresh(f"{c.name}_start"))  # fmt: skip
                starts.append(start)
                inner = _starting(inner, i, str(start.result))
            shape = (Num(self.parts), *(v.hi for v in order))
            temp = Param(self.fresh(f"{c.result}_parts"), TensorType(t.dtype, shape))
            params.append(temp)
            coords = (Var(part.name), *(Var(v.name) for v in order))
            stores.append(Store(c.result, temp.name, coords))
            load = Load(temp.name, coords, t, result=self.fresh(f"{c.result}_part"))
            total = Binary(COMBINES[c.kind], c.name, str(load.result),
                           result=self.fresh(f"{c.name}_next"))  # fmt: skip
            loads += [load, total]
            carries.append((c.name, c.init))
            yields.append(str(total.result))
        p = self.split.outer
        one = replace(p, vars=(part, *p.vars), body=(*before, *starts, inner, *stores))
        results = tuple(c.result for c in self.split.found)
        loop_ = For(part, (*loads, Yield(tuple(yields))), tuple(carries), results)
        two = replace(p, body=(*before, loop_, *after))
        first = part_of(module, self.k, "parts", one, self.k.inputs, tuple(params))
        second = part_of(module, self.k, "total", two, (*self.k.inputs, *params), self.k.outputs)
        if why := beyond_counts(self.k, second, p.vars):
            return NoMatch(why)
        return first, second, [Temp(q.name, q.type) for q in params]


def _starting(s: For, i: int, init: str) -> For:
    carries = tuple((n, init if j == i else x) for j, (n, x) in enumerate(s.carries))
    return replace(s, carries=carries)
