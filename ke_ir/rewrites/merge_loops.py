"""Loops that run once, and loops that run over the same range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

from ke_ir.ir import For, Kernel, LoopVar, Yield, defined_names
from ke_ir.ops.base import Operand, Stmt
from ke_ir.rewrites.base import KernelRewrite, NoMatch, loop, register_rewrite
from ke_ir.rewrites.body import Facts, LoopSite, facts, replace_block, splice, split_yield
from ke_ir.rewrites.clean import SimplifyMasks
from ke_ir.rewrites.names import renamed, used_in
from ke_ir.rewrites.retile import MAX_ELEMENTS, MAX_WHOLE, Retile
from ke_ir.rewrites.tidy import merged


@register_rewrite
@dataclass(frozen=True)
class DropLoop(KernelRewrite):
    """Run the body of a loop of one trip without the loop.

    Its variable becomes one of ``parallel``, with a single tile; a tile over the same range that
    is there already serves.

    ``drop_loop(@row_sum, %d)``

    Before:

    ```
    kernel @row_sum(%x: f32[B, D]) -> (%y: f32[B])
    dims B in 1..64 = 5, D = 12
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %s = for %d = 0 to D tile 12 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f32[2, 12]
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
    kernel @row_sum(%x: f32[B, D]) -> (%y: f32[B])
    dims B in 1..64 = 5, D = 12
    {
      parallel %b = 0 to B tile 2, %d = 0 to D tile 12 {
        %zero = full 0.0 : f32[2]
        %v = load %x[%b, %d] : f32[2, 12]
        %r = reduce sum %v dim 1
        %t = add %zero, %r
        store %t, %y[%b]
      }
    }
    ```
    """

    name = "drop_loop"
    loop: str = loop()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        f = facts(k)
        site = f.loops.get(self.loop)
        if site is None or not isinstance(site.loop, For):
            return NoMatch(f"@{k.name} has no sequential loop %{self.loop}")
        if not f.one_trip(site.var):
            return NoMatch(f"the loop %{self.loop} may run more or less than once")
        return _dropped(f, site, site.loop)

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        f = facts(k)
        for site in f.loops.values():
            if isinstance(site.loop, For) and f.one_trip(site.var):
                yield cls(k.name, site.var.name)


def _dropped(f: Facts, site: LoopSite, loop: For) -> Kernel:
    names: dict[str, Operand] = dict(loop.carries)
    p, v = f.parallel, site.var
    same = next((u for u in p.vars if _same_range(u, v) and not _meets(f, loop, u)), None)
    variables = p.vars
    if same is not None:
        names[v.name] = same.name
    else:
        # Before the two variables whose tiles are traversed in groups.
        at = len(p.vars) - 2 if p.group else len(p.vars)
        variables = (*p.vars[:at], v, *p.vars[at:])
    body, yields = split_yield(loop.body)
    after = renamed((Yield(yields),), names)[0]
    assert isinstance(after, Yield)
    results: dict[str, Operand] = dict(zip(loop.results, after.values, strict=True))
    new = splice(f.kernel, site.path, renamed(body, names))
    outer = facts(new).parallel
    return replace(new, body=(replace(outer, vars=variables, body=renamed(outer.body, results)),))


def _meets(f: Facts, loop: For, v: LoopVar) -> bool:
    """True if tiles along ``v`` are used in the loop, where its own tiles are another dimension."""
    axis = f.axes.of_loop(v.name)
    used = used_in((loop,))
    return v.name in used or any(f.axes.position(n, axis) is not None for n in used)


@register_rewrite
@dataclass(frozen=True)
class MergeLoops(KernelRewrite):
    """Run two loops over the same range, in tiles of one size, as one.

    The second must not need results of the first. What both load, ``cse`` then loads once.

    ``merge_loops(@both, %d, %e)``

    Before:

    ```
    kernel @both(%x: f32[B, D]) -> (%s: f32[B], %y: f32[B, D])
    dims B = 3, D = 8
    {
      parallel %b = 0 to B {
        %zero = full 0.0 : f32
        %r = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %u = load %x[%b, %d] : f32[4]
          %p = reduce sum %u dim 0
          %t = add %acc, %p
          yield %t
        }
        store %r, %s[%b]
        for %e = 0 to D tile 4 {
          %v = load %x[%b, %e] : f32[4]
          %w = exp %v
          store %w, %y[%b, %e]
        }
      }
    }
    ```

    After:

    ```
    kernel @both(%x: f32[B, D]) -> (%s: f32[B], %y: f32[B, D])
    dims B = 3, D = 8
    {
      parallel %b = 0 to B {
        %zero = full 0.0 : f32
        %r = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %u = load %x[%b, %d] : f32[4]
          %p = reduce sum %u dim 0
          %t = add %acc, %p
          %v = load %x[%b, %d] : f32[4]
          %w = exp %v
          store %w, %y[%b, %d]
          yield %t
        }
        store %r, %s[%b]
      }
    }
    ```
    """

    name = "merge_loops"
    first: str = loop()
    second: str = loop()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        f = facts(k)
        a, b = f.loops.get(self.first), f.loops.get(self.second)
        for name, site in ((self.first, a), (self.second, b)):
            if site is None or not isinstance(site.loop, For):
                return NoMatch(f"@{k.name} has no sequential loop %{name}")
        assert a is not None and b is not None
        if a.path[:-1] != b.path[:-1] or a.path >= b.path:
            return NoMatch(f"%{self.second} does not follow %{self.first} in the same block")
        if not _same_range(a.var, b.var):
            return NoMatch(f"%{self.first} and %{self.second} differ in range or tile size")
        return _merged(f, a, b)

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        f = facts(k)
        sites = [s for s in f.loops.values() if isinstance(s.loop, For)]
        for i, a in enumerate(sites):
            for b in sites[i + 1 :]:
                if a.path[:-1] == b.path[:-1] and _same_range(a.var, b.var):
                    new = cls(k.name, a.var.name, b.var.name)
                    if not isinstance(new.change(k), NoMatch):
                        yield new


def _same_range(a: LoopVar, b: LoopVar) -> bool:
    return (a.lo, a.hi, a.tile) == (b.lo, b.hi, b.tile)


def _merged(f: Facts, a: LoopSite, b: LoopSite) -> Kernel | NoMatch:
    first, second = a.loop, b.loop
    assert isinstance(first, For) and isinstance(second, For)
    block = f.block_of(a.path)
    between = block[a.path[-1] + 1 : b.path[-1]]
    before, after = _split(between, set(first.results))
    late = {n for s in (first, *after) for n in defined_names(s)}
    if needed := sorted(late & used_in((second,))):
        return NoMatch(f"the loop %{b.var.name} needs %{needed[0]}, which comes after the loop "
                       f"%{a.var.name}")  # fmt: skip
    one, yields = split_yield(first.body)
    two, more = split_yield(renamed(second.body, {b.var.name: a.var.name}))
    end = (Yield((*yields, *more)),) if yields or more else ()
    new = replace(
        first, body=(*one, *two, *end), carries=(*first.carries, *second.carries),
        results=(*first.results, *second.results), stages=max(first.stages, second.stages),
    )  # fmt: skip
    body = (*block[: a.path[-1]], *before, new, *after, *block[b.path[-1] + 1 :])
    return replace_block(f.kernel, a.path[:-1], body)


def _split(body: Sequence[Stmt], late: set[str]) -> tuple[list[Stmt], list[Stmt]]:
    """Statements that do not need the names ``late``, and those that do, each in order."""
    before: list[Stmt] = []
    after: list[Stmt] = []
    late = set(late)
    for s in body:
        if used_in((s,)) & late:
            late.update(defined_names(s))
            after.append(s)
        else:
            before.append(s)
    return before, after


@register_rewrite
@dataclass(frozen=True)
class WholeRow(KernelRewrite):
    """Cover the range of a loop with one tile, in every loop over that range, and load it once.

    What ``retile`` to the extent, ``drop_loop``, ``simplify_masks`` and ``cse`` give, for all loops
    that run over the same range side by side.

    ``whole_row(@scale, %d)``

    Before:

    ```
    kernel @scale(%x: f32[B, D]) -> (%y: f32[B, D])
    dims B in 1..64 = 5, D = 12
    {
      parallel %b = 0 to B {
        %zero = full 0.0 : f32
        %s = for %d = 0 to D tile 4 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f32[4]
          %r = reduce sum %v dim 0
          %t = add %acc, %r
          yield %t
        }
        for %e = 0 to D tile 8 {
          %w = load %x[%b, %e] : f32[8]
          %q = div %w, %s
          store %q, %y[%b, %e]
        }
      }
    }
    ```

    After:

    ```
    kernel @scale(%x: f32[B, D]) -> (%y: f32[B, D])
    dims B in 1..64 = 5, D = 12
    {
      parallel %b = 0 to B, %d = 0 to D tile 12 {
        %zero = full 0.0 : f32
        %v = load %x[%b, %d] : f32[12]
        %r = reduce sum %v dim 0
        %t = add %zero, %r
        %q = div %v, %t
        store %q, %y[%b, %d]
      }
    }
    ```
    """

    name = "whole_row"
    loop: str = loop()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        f = facts(k)
        site = f.loops.get(self.loop)
        if site is None or not isinstance(site.loop, For) or site.var.tile is None:
            return NoMatch(f"@{k.name} has no tiled sequential loop %{self.loop}")
        extent = f.extent(site.var)
        if extent is None or not 0 < extent <= MAX_WHOLE:
            return NoMatch(f"the range of %{self.loop} is not at most {MAX_WHOLE} indices "
                           "at every size")  # fmt: skip
        for v in _beside(f, site):
            if v.tile != extent:
                got = Retile(k.name, v.name, extent).change(k)
                if isinstance(got, NoMatch):
                    return got
                k = got
            got = DropLoop(k.name, v.name).change(k)
            if isinstance(got, NoMatch):
                return got
            k = got
        return merged(SimplifyMasks(k.name).run(k))

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        f = facts(k)
        done: set[str] = set()
        for name, site in f.loops.items():
            if isinstance(site.loop, For) and site.var.tile is not None and name not in done:
                beside = _beside(f, site)
                done |= {v.name for v in beside}
                extent = f.extent(site.var) or 0
                if all(_elements(f, v, extent) <= MAX_ELEMENTS for v in beside):
                    new = cls(k.name, name)
                    if not isinstance(new.change(k), NoMatch):
                        yield new


def _beside(f: Facts, site: LoopSite) -> list[LoopVar]:
    """Tiled loops in the same block over the same range, with the loop itself."""
    return [
        s.var for s in f.loops.values()
        if isinstance(s.loop, For) and s.path[:-1] == site.path[:-1] and s.var.tile is not None
        and (s.var.lo, s.var.hi) == (site.var.lo, site.var.hi)
    ]  # fmt: skip


def _elements(f: Facts, v: LoopVar, tile: int) -> int:
    """Elements of the largest value along a loop if its tile were of this size."""
    axis = f.axes.of_loop(v.name)
    sizes = [t.elements for n, t in f.types.items() if axis in f.axes.of(n)]
    return max(sizes, default=1) // v.step * tile
