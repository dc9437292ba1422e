"""Choices that change when work is done but not the statements: stages, order, persistence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from ke_ir.ir import For, Kernel
from ke_ir.rewrites.base import (
    KernelRewrite,
    NoMatch,
    integer,
    loop,
    register_rewrite,
    word,
)
from ke_ir.rewrites.body import facts, splice

STAGES = (1, 2, 3, 4)
GROUPS = (0, 4, 8, 16)


@register_rewrite
@dataclass(frozen=True)
class SetStages(KernelRewrite):
    """Change the pipelining depth of a sequential loop: how many iterations may be in flight.

    ``set_stages(@double, %d, 3)``

    Before:

    ```
    kernel @double(%x: f32[B, D]) -> (%y: f32[B, D])
    dims B = 4, D = 32
    {
      parallel %b = 0 to B {
        for %d = 0 to D tile 8 {
          %v = load %x[%b, %d] : f32[8]
          %t = add %v, %v
          store %t, %y[%b, %d]
        }
      }
    }
    ```

    After:

    ```
    kernel @double(%x: f32[B, D]) -> (%y: f32[B, D])
    dims B = 4, D = 32
    {
      parallel %b = 0 to B {
        for %d = 0 to D tile 8 stages 3 {
          %v = load %x[%b, %d] : f32[8]
          %t = add %v, %v
          store %t, %y[%b, %d]
        }
      }
    }
    ```
    """

    name = "set_stages"
    loop: str = loop()
    stages: int = integer()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        site = facts(k).loops.get(self.loop)
        if site is None or not isinstance(site.loop, For):
            return NoMatch(f"@{k.name} has no sequential loop %{self.loop}")
        if self.stages < 1:
            return NoMatch(f"{self.stages} stages")
        if site.loop.stages == self.stages:
            return NoMatch(f"%{self.loop} has {self.stages} stages already")
        return splice(k, site.path, (replace(site.loop, stages=self.stages),))

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        f = facts(k)
        for site in f.loops.values():
            if isinstance(site.loop, For) and not f.one_trip(site.var):
                for n in STAGES:
                    if n != site.loop.stages:
                        yield cls(k.name, site.var.name, n)


@register_rewrite
@dataclass(frozen=True)
class SetOrder(KernelRewrite):
    """Change how the tiles of the last two parallel variables are traversed.

    In columns of so many rows (``order grouped``), so that neighbours share operands in a cache;
    0 is row by row.

    ``set_order(@outer, 8)``

    Before:

    ```
    kernel @outer(%a: f32[M], %b: f32[N]) -> (%y: f32[M, N])
    dims M = 24, N = 16
    {
      parallel %m = 0 to M tile 2, %n = 0 to N tile 4 {
        %u = load %a[%m] : f32[2]
        %v = load %b[%n] : f32[4]
        %p = mul expand %u dim 1, expand %v dim 0
        store %p, %y[%m, %n]
      }
    }
    ```

    After:

    ```
    kernel @outer(%a: f32[M], %b: f32[N]) -> (%y: f32[M, N])
    dims M = 24, N = 16
    {
      parallel %m = 0 to M tile 2, %n = 0 to N tile 4 order grouped(8) {
        %u = load %a[%m] : f32[2]
        %v = load %b[%n] : f32[4]
        %p = mul expand %u dim 1, expand %v dim 0
        store %p, %y[%m, %n]
      }
    }
    ```
    """

    name = "set_order"
    group: int = integer()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        p = facts(k).parallel
        if len(p.vars) < 2:
            return NoMatch(f"@{k.name} has one parallel variable, so one order")
        if self.group < 0:
            return NoMatch(f"groups of {self.group} rows")
        if p.group == self.group:
            return NoMatch("the order is that already")
        return replace(k, body=(replace(p, group=self.group),))

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        f = facts(k)
        if len(f.parallel.vars) >= 2 and not any(f.one_trip(v) for v in f.parallel.vars[-2:]):
            yield from (cls(k.name, n) for n in GROUPS if n != f.parallel.group)


@register_rewrite
@dataclass(frozen=True)
class SetPersistent(KernelRewrite):
    """Launch as many workers as the target has units, each taking tile after tile, or not.

    ``set_persistent(@double, on)``

    Before:

    ```
    kernel @double(%x: f32[B]) -> (%y: f32[B])
    dims B = 64
    {
      parallel %b = 0 to B tile 4 {
        %v = load %x[%b] : f32[4]
        %t = add %v, %v
        store %t, %y[%b]
      }
    }
    ```

    After:

    ```
    kernel @double(%x: f32[B]) -> (%y: f32[B])
    dims B = 64
    {
      parallel %b = 0 to B tile 4 persistent {
        %v = load %x[%b] : f32[4]
        %t = add %v, %v
        store %t, %y[%b]
      }
    }
    ```
    """

    name = "set_persistent"
    to: str = word("on", "off")

    def change(self, k: Kernel) -> Kernel | NoMatch:
        p = facts(k).parallel
        if p.persistent == (self.to == "on"):
            return NoMatch(f"persistence is {self.to} already")
        return replace(k, body=(replace(p, persistent=not p.persistent),))

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        yield cls(k.name, "off" if facts(k).parallel.persistent else "on")
