"""The order of loops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

from ke_ir.expr import variables
from ke_ir.ir import For, Kernel, LoopVar, Parallel
from ke_ir.ops import Binary, Dot
from ke_ir.ops.base import Op, Stmt
from ke_ir.rewrites.base import KernelRewrite, NoMatch, loop, register_rewrite
from ke_ir.rewrites.body import Facts, LoopSite, facts, splice, split_yield
from ke_ir.rewrites.carries import COMBINES
from ke_ir.rewrites.names import used_in


@register_rewrite
@dataclass(frozen=True)
class Interchange(KernelRewrite):
    """Swap two neighbouring parallel variables, or a loop and the loop that is all of its body.

    Loops that carry values must combine them in any order: a sum, a product, an extreme.

    ``interchange(@conv, %t, %c)``

    Before:

    ```
    kernel @conv(%x: f32[C, N], %w: f32[C, T]) -> (%y: f32[N])
    dims C = 8, N = 6, T = 3
    {
      parallel %n = 0 to N tile 2 {
        %zero = full 0.0 : f32[2]
        %r = for %t = 0 to T carry (%a = %zero) {
          %s = for %c = 0 to C carry (%b = %a) {
            %v = load %x[%c, %n + %t - 1] : f32[2]
            %u = load %w[%c, %t] : f32
            %p = mul %v, %u
            %q = add %b, %p
            yield %q
          }
          yield %s
        }
        store %r, %y[%n]
      }
    }
    ```

    After:

    ```
    kernel @conv(%x: f32[C, N], %w: f32[C, T]) -> (%y: f32[N])
    dims C = 8, N = 6, T = 3
    {
      parallel %n = 0 to N tile 2 {
        %zero = full 0.0 : f32[2]
        %r = for %c = 0 to C carry (%a = %zero) {
          %s = for %t = 0 to T carry (%b = %a) {
            %v = load %x[%c, %n + %t - 1] : f32[2]
            %u = load %w[%c, %t] : f32
            %p = mul %v, %u
            %q = add %b, %p
            yield %q
          }
          yield %s
        }
        store %r, %y[%n]
      }
    }
    ```
    """

    name = "interchange"
    outer: str = loop()
    inner: str = loop()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        f = facts(k)
        a, b = f.loops.get(self.outer), f.loops.get(self.inner)
        if a is None or b is None:
            return NoMatch(f"@{k.name} has no loop %{self.inner if a else self.outer}")
        if isinstance(a.loop, Parallel):
            return _swap_parallel(k, a.loop, self.outer, self.inner)
        return _swap_nested(f, a, b)

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        f = facts(k)
        for one, two in pairwise(f.parallel.vars):
            if not (f.one_trip(one) or f.one_trip(two)):
                yield cls(k.name, one.name, two.name)
        for site in f.loops.values():
            inner = site.loop.body[0]
            if isinstance(site.loop, For) and isinstance(inner, For):
                new = cls(k.name, site.var.name, inner.var.name)
                if not isinstance(new.change(k), NoMatch):
                    yield new


def _swap_parallel(k: Kernel, p: Parallel, first: str, second: str) -> Kernel | NoMatch:
    names = [v.name for v in p.vars]
    i = names.index(first)
    if names[i + 1 : i + 2] != [second]:
        return NoMatch(f"%{second} is not the parallel variable after %{first}")
    new: list[LoopVar] = list(p.vars)
    new[i], new[i + 1] = new[i + 1], new[i]
    return replace(k, body=(replace(p, vars=tuple(new)),))


def _swap_nested(f: Facts, a: LoopSite, b: LoopSite) -> Kernel | NoMatch:
    outer, inner = a.loop, b.loop
    assert isinstance(outer, For)
    body, yields = split_yield(outer.body)
    if body != (inner,) or not isinstance(inner, For):
        return NoMatch(f"the loop %{b.var.name} is not all of the body of %{a.var.name}")
    if a.var.name in (*variables(b.var.lo), *variables(b.var.hi)):
        return NoMatch(f"the range of %{b.var.name} depends on %{a.var.name}")
    passed = tuple(init for _, init in inner.carries)
    if passed != tuple(n for n, _ in outer.carries) or yields != inner.results:
        return NoMatch(f"%{a.var.name} does not just pass on what %{b.var.name} carries")
    if why := order_matters(inner):
        return NoMatch(why)
    new_inner = replace(inner, var=outer.var, stages=outer.stages)
    rest: tuple[Stmt, ...] = outer.body[1:]
    new = replace(outer, var=inner.var, stages=inner.stages, body=(new_inner, *rest))
    return splice(f.kernel, a.path, (new,))


def order_matters(s: For) -> str:
    """Why the iterations of a loop cannot run in another order; empty if they can."""
    body, yields = split_yield(s.body)
    defined = {x.result: x for x in body if isinstance(x, Op)}
    for (c, _), y in zip(s.carries, yields, strict=True):
        op = defined.get(y) if isinstance(y, str) else None
        others = used_in(x for x in body if x is not op)
        once = op is not None and sum(x == c for x in op.operands()) == 1
        ok = isinstance(op, Binary) and op.fn in COMBINES.values()
        ok = ok or (isinstance(op, Dot) and op.acc == c)
        if not (ok and once and c not in others):
            return f"what %{c} carries depends on the order of iterations"
        if y in others:
            return f"%{y}, a partial result, is used in its iteration"
    return ""
