"""Moving statements out of loops and into them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from ke_ir.ir import For, Kernel
from ke_ir.ops import Accumulate, Store
from ke_ir.ops.base import Op, Stmt
from ke_ir.rewrites.base import KernelRewrite, NoMatch, loop, register_rewrite, value
from ke_ir.rewrites.body import Facts, LoopSite, Path, facts, replace_block, splice
from ke_ir.rewrites.names import defined_in, used_names


@register_rewrite
@dataclass(frozen=True)
class Hoist(KernelRewrite):
    """Move all that is the same in each iteration of a loop to before it.

    ``hoist(@scale, %d)``

    Before:

    ```
    kernel @scale(%x: f32[B, D], %s: f32[B]) -> (%y: f32[B, D])
    dims B = 3, D = 8
    {
      parallel %b = 0 to B {
        for %d = 0 to D tile 4 {
          %v = load %x[%b, %d] : f32[4]
          %u = load %s[%b] : f32
          %e = exp %u
          %t = mul %v, %e
          store %t, %y[%b, %d]
        }
      }
    }
    ```

    After:

    ```
    kernel @scale(%x: f32[B, D], %s: f32[B]) -> (%y: f32[B, D])
    dims B = 3, D = 8
    {
      parallel %b = 0 to B {
        %u = load %s[%b] : f32
        %e = exp %u
        for %d = 0 to D tile 4 {
          %v = load %x[%b, %d] : f32[4]
          %t = mul %v, %e
          store %t, %y[%b, %d]
        }
      }
    }
    ```
    """

    name = "hoist"
    loop: str = loop()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        site = facts(k).loops.get(self.loop)
        if site is None or not isinstance(site.loop, For):
            return NoMatch(f"@{k.name} has no sequential loop %{self.loop}")
        moved, kept = _invariant(site.loop)
        if not moved:
            return NoMatch(f"nothing in the loop %{self.loop} is the same in each iteration")
        return splice(k, site.path, (*moved, replace(site.loop, body=tuple(kept))))

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        for site in facts(k).loops.values():
            if isinstance(site.loop, For) and _invariant(site.loop)[0]:
                yield cls(k.name, site.var.name)


def _invariant(s: For) -> tuple[list[Stmt], list[Stmt]]:
    """The ops of a loop's body that need nothing of the loop, and the other statements."""
    varying = {s.var.name, *(n for n, _ in s.carries)}
    moved: list[Stmt] = []
    kept: list[Stmt] = []
    for x in s.body:
        movable = isinstance(x, Op) and not isinstance(x, Store | Accumulate)
        if movable and varying.isdisjoint(used_names(x)):
            moved.append(x)
        else:
            varying.update(defined_in((x,)))
            kept.append(x)
    return moved, kept


@register_rewrite
@dataclass(frozen=True)
class Sink(KernelRewrite):
    """Move a statement into the one loop that uses its value, where each iteration repeats it.

    What is cheap to compute again then need not be kept.

    ``sink(@scale, %e)``

    Before:

    ```
    kernel @scale(%x: f32[B, D], %s: f32[B]) -> (%y: f32[B, D])
    dims B = 3, D = 8
    {
      parallel %b = 0 to B {
        %u = load %s[%b] : f32
        %e = exp %u
        for %d = 0 to D tile 4 {
          %v = load %x[%b, %d] : f32[4]
          %t = mul %v, %e
          store %t, %y[%b, %d]
        }
      }
    }
    ```

    After:

    ```
    kernel @scale(%x: f32[B, D], %s: f32[B]) -> (%y: f32[B, D])
    dims B = 3, D = 8
    {
      parallel %b = 0 to B {
        %u = load %s[%b] : f32
        for %d = 0 to D tile 4 {
          %e = exp %u
          %v = load %x[%b, %d] : f32[4]
          %t = mul %v, %e
          store %t, %y[%b, %d]
        }
      }
    }
    ```
    """

    name = "sink"
    value: str = value()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        f = facts(k)
        found = _target(f, self.value)
        if isinstance(found, NoMatch):
            return found
        path, site = found
        op = f.get(path)
        assert isinstance(site.loop, For)
        block = [
            replace(s, body=(op, *s.body)) if isinstance(s, For) and s is site.loop else s
            for s in f.block_of(path)
            if s is not op
        ]
        return replace_block(k, path[:-1], block)

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        f = facts(k)
        for path, s in f.statements:
            if isinstance(s, Op) and s.result is not None and len(path) > 1:
                found = _target(f, s.result)
                if not isinstance(found, NoMatch):
                    yield cls(k.name, s.result)


def _target(f: Facts, name: str) -> tuple[Path, LoopSite] | NoMatch:
    """Where the statement that defines a value is, and the loop in its block that uses it."""
    op = f.definitions.get(name)
    if not isinstance(op, Op):
        return NoMatch(f"@{f.kernel.name} has no statement that defines %{name}")
    path = f.places[name]
    n = len(path)
    users = f.users.get(name, [])
    tops = {p[:n] for p, _ in users}
    if not users or len(tops) != 1 or any(len(p) == n for p, _ in users):
        return NoMatch(f"%{name} is not used in just one loop beside it")
    (top,) = tops
    loop_ = f.get(top)
    assert isinstance(loop_, For)
    return path, f.loops[loop_.var.name]
