"""The tile size of a loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from ke_ir.axes import AxisId, resized
from ke_ir.expr import Call, Expr, Var, variables
from ke_ir.ir import For, Kernel, LoopVar, Parallel
from ke_ir.ops import Accumulate, Store
from ke_ir.ops.base import Invalid
from ke_ir.rewrites.base import KernelRewrite, NoMatch, integer, loop, register_rewrite
from ke_ir.rewrites.body import Facts, LoopSite, facts
from ke_ir.rewrites.carries import COMBINES, Carries, reduction_of
from ke_ir.rewrites.lift import dependents, tiled
from ke_ir.rewrites.padding import Padding, divides

MAX_TILE = 4096
"""Largest power of two that is offered."""
MAX_WHOLE = 16384
"""Largest extent that is offered as one tile."""
MAX_ELEMENTS = 1 << 17
"""Most elements of any value, in what is offered; more can be asked for by name."""
SPREAD = 8
"""Offered sizes are at most this many times larger or smaller than the present one."""
MAX_DIVISORS = 3


@register_rewrite
@dataclass(frozen=True)
class Retile(KernelRewrite):
    """Change how many indices one tile of a loop covers.

    For a variable of ``parallel`` (rows per program, the tile of an output) or of ``for``. What is
    carried from tile to tile must be combined in a form that is the same for every tile size, and
    elements beyond the end of the loop must not count: ``ke_ir.rewrites.carries`` and ``padding``.
    An untiled variable of ``parallel`` becomes an index tile: ``ke_ir.rewrites.lift``.

    ``retile(@row_sum, %d, 8)``

    Before:

    ```
    kernel @row_sum(%x: f32[B, D]) -> (%y: f32[B])
    dims B in 1..64 = 5, D = 12
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
    kernel @row_sum(%x: f32[B, D]) -> (%y: f32[B])
    dims B in 1..64 = 5, D = 12
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %s = for %d = 0 to D tile 8 carry (%acc = %zero) {
          %v = load %x[%b, %d] : f32[2, 8]
          %r = reduce sum %v dim 1
          %t = add %acc, %r
          yield %t
        }
        store %s, %y[%b]
      }
    }
    ```
    """

    name = "retile"
    loop: str = loop()
    tile: int = integer()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        f = facts(k)
        site = f.loops.get(self.loop)
        if site is None:
            return NoMatch(f"@{k.name} has no loop %{self.loop}")
        if self.tile < 1:
            return NoMatch(f"a tile of {self.tile} indices")
        if site.var.tile == self.tile:
            return NoMatch(f"the tile of %{self.loop} is {self.tile} already")
        if site.var.tile is None and isinstance(site.loop, Parallel):
            return tiled(f, site.var, self.tile)
        axis = _axis(f, site)
        if isinstance(axis, NoMatch):
            return axis
        if not _fits(f, self.tile, site.var) and (why := _beyond(f, site, axis)):
            return NoMatch(why)
        new = resized(f.axes, {axis: self.tile})
        try:
            _ = facts(new).types
        except Invalid as bad:
            return NoMatch(f"with {self.tile} indices a tile, {bad}")
        return new

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        f = facts(k)
        for site in f.loops.values():
            if site.var.tile is None and isinstance(site.loop, Parallel):
                yield from (cls(k.name, site.var.name, n) for n in _first_tiles(f, site.var))
                continue
            axis = _axis(f, site)
            if isinstance(axis, NoMatch):
                continue
            limit = MAX_ELEMENTS * (site.var.tile or 1) // _largest_value(f, axis)
            free = not _beyond(f, site, axis)
            for n in tile_choices(f, site.var):
                if n <= max(limit, site.var.step) and (free or _fits(f, n, site.var)):
                    yield cls(k.name, site.var.name, n)


def _first_tiles(f: Facts, v: LoopVar) -> list[int]:
    """Sizes worth trying for a variable that has no tile yet."""
    choices = [n for n in tile_choices(f, v) if n <= SPREAD]
    if not choices or isinstance(tiled(f, v, choices[0]), NoMatch):
        return []
    largest = max((f.types[n].elements for n in dependents(f, v)), default=1)
    return [n for n in choices if n * largest <= MAX_ELEMENTS]


def tile_choices(f: Facts, v: LoopVar) -> list[int]:
    """Sizes worth trying in place of the present one, smallest first."""
    old = v.step
    near = [1 << i for i in range(MAX_TILE.bit_length())]
    extent = f.extent(v)
    found = {n for n in near if n <= old * SPREAD and old <= n * SPREAD}
    if extent is not None:
        found = {n for n in found if n < 2 * extent}
        divisors = [n for n in range(max(2, old // SPREAD), min(extent, old * SPREAD) + 1)
                    if extent % n == 0 and n & (n - 1)]  # fmt: skip
        found |= set(sorted(divisors, key=lambda n: abs(n - old))[:MAX_DIVISORS])
        if 0 < extent <= MAX_WHOLE:
            found.add(extent)
    return sorted(found - {old})


def _fits(f: Facts, tile: int, v: LoopVar) -> bool:
    """True if neither the present tile nor the new one reaches beyond the loop's end."""
    return divides(f, v.step, v) and divides(f, tile, v)


def range_reason(f: Facts, site: LoopSite, whole: bool = False) -> str:
    """Why a loop cannot be gone through in other ranges, in tiles of the size it has; empty if it
    can. ``whole``: no tile reaches beyond the end of a range then."""
    axis = _axis(f, site)
    if isinstance(axis, NoMatch):
        return axis.reason
    return "" if whole and divides(f, site.var.step, site.var) else _beyond(f, site, axis)


def _largest_value(f: Facts, axis: AxisId) -> int:
    return max(
        (t.elements for n, t in f.types.items() if axis in f.axes.of(n)),
        default=1,
    )


def _axis(f: Facts, site: LoopSite) -> AxisId | NoMatch:
    """The axis of a loop whose tile size does not matter but for what lies beyond its end."""
    v = site.var
    axis = f.axes.of_loop(v.name)
    if axis is None:
        return NoMatch(f"%{v.name} is not tiled: it stands for one index at a time")
    others = [n for n in f.axes.loops(axis) if n != v.name]
    if others:
        return NoMatch(f"tiles of %{v.name} are combined with tiles of %{others[0]}, "
                       "so their sizes must stay equal")  # fmt: skip
    if why := f.axes.pinned(axis):
        return NoMatch(f"the tile of %{v.name} cannot change: {why}")
    if (user := _bound_user(f, v.name)) is not None:
        return NoMatch(f"the range of %{user} depends on the tiles of %{v.name}")
    if why := _writes(f, site, axis):
        return NoMatch(why)
    found = _combinations(f, site, axis)
    return found if isinstance(found, NoMatch) else axis


def _bound_user(f: Facts, name: str) -> str | None:
    """A loop whose bounds name the ends of a tile of ``name``, if its range then matters."""
    for site in f.loops.values():
        for e in (site.var.lo, site.var.hi):
            if name in variables(e) and not _cut_short(f, site, name, e):
                return site.var.name
    return None


def _cut_short(f: Facts, site: LoopSite, name: str, e: Expr) -> bool:
    """True if a loop to ``end(%name)`` leaves out only what does not count."""
    if e is site.var.lo or e != Call("end", (Var(name),)):
        return False
    axis = f.axes.of_loop(site.var.name)
    if axis is None or not isinstance(site.loop, For) or any(True for _ in _written_in(f, site)):
        return False
    return not isinstance(reduction_of(f, site, axis), NoMatch) and not _beyond(
        f, site, axis, loads=False
    )


def _written_in(f: Facts, site: LoopSite) -> Iterator[Store | Accumulate]:
    n = len(site.path)
    for path, s in f.statements:
        if isinstance(s, Store | Accumulate) and path[:n] == site.path:
            yield s


def _present(f: Facts, name: str, axis: AxisId, op: Store | Accumulate) -> bool:
    """True if what a write addresses has a dimension along the loop's axis."""
    named = {n for c in op.coords for n in variables(c)}
    return name in named or any(f.axes.position(n, axis) is not None for n in named)


def _writes(f: Facts, site: LoopSite, axis: AxisId) -> str:
    """Why the number of iterations shows in what is written; empty if it does not."""
    partial = {str(op.result) for op in f.axes.combined(axis)}
    for op in _written_in(f, site):
        if not _present(f, site.var.name, axis, op):
            if isinstance(op, Store):
                return f"%{op.tensor} is stored in each iteration of %{site.var.name}"
            if op.x not in partial:
                return f"%{op.tensor} is accumulated in each iteration of %{site.var.name}"
    return ""


def _combinations(f: Facts, site: LoopSite, axis: AxisId) -> Carries | NoMatch | None:
    """How tiles are combined along the loop: carried, accumulated, or (None) not at all."""
    if isinstance(site.loop, For):
        return reduction_of(f, site, axis)
    for op in f.axes.combined(axis):
        kind = "sum" if not hasattr(op, "kind") else op.kind
        users = f.users.get(str(op.result), [])
        for _, s in users:
            if not (isinstance(s, Accumulate) and COMBINES.get(kind) == s.kind):
                return NoMatch(f"%{op.result} combines elements of one tile of %{site.var.name}")
    return None


def _beyond(f: Facts, site: LoopSite, axis: AxisId, loads: bool = True) -> str:
    """What beyond the loop's end would count; empty if nothing does.

    Without ``loads``, elements there are read like any others, as if the loop ended later.
    """
    found = _combinations(f, site, axis)
    assert not isinstance(found, NoMatch)
    pad = Padding(f, site.var, loads)
    if found is not None:
        pad.above_lowest |= found.running_max
    places = set() if found is None else found.places
    for op in f.axes.combined(axis):
        if op.result not in places and not pad.neutral(op):
            return (f"%{op.result} would count elements beyond the end of %{site.var.name}; "
                    "a tile that divides the range has none")  # fmt: skip
    for w in _written_in(f, site):
        if not pad.unwritten(w):
            return f"%{w.tensor} would be written from beyond the end of %{site.var.name}"
    return ""
