"""A loop as two: over blocks of its indices, and within one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from ke_ir.expr import Bin, Expr, Num, Var, rewrite, substitute, variables
from ke_ir.index_maps import Spans, add, expanded, floordiv, mod, number, split
from ke_ir.intervals import Interval
from ke_ir.ir import For, Kernel, LoopVar, Yield, statements
from ke_ir.ops import Accumulate, Iota, Load, Permute, Store
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.rewrites.base import KernelRewrite, NoMatch, integer, loop, register_rewrite
from ke_ir.rewrites.body import Facts, facts, splice
from ke_ir.rewrites.names import Fresh
from ke_ir.rewrites.retile import range_reason


@register_rewrite
@dataclass(frozen=True)
class Block(KernelRewrite):
    """Go through a loop's indices in blocks: a loop over blocks around one within.

    Where several indices are walked as one, as the taps of a convolution and its channels, that
    takes them apart again: what only depends on the place within a block is then the same in each.
    What is carried from tile to tile must allow another tile size, as for ``retile``.

    ``block(@dot, %k, 6)``

    Before:

    ```
    kernel @dot(%x: f32[B, 4, 6], %w: f32[4, 6]) -> (%y: f32[B])
    dims B in 1..64 = 5
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %s = for %k = 0 to 24 tile 8 carry (%acc = %zero) {
          %v = load %x[%b, %k // 6, %k % 6] : f32[2, 8]
          %w_1 = load %w[%k // 6, %k % 6] : f32[8]
          %e = expand %w_1 dim 0
          %p = mul %v, %e
          %r = reduce sum %p dim 1
          %t = add %acc, %r
          yield %t
        }
        store %s, %y[%b]
      }
    }
    ```

    After:

    ```
    kernel @dot(%x: f32[B, 4, 6], %w: f32[4, 6]) -> (%y: f32[B])
    dims B in 1..64 = 5
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %s = for %k_block = 0 to 4 carry (%acc_block = %zero) {
          %s_1 = for %k = 0 to 6 tile 8 carry (%acc = %acc_block) {
            %v = load %x[%b, %k_block, %k] : f32[2, 8]
            %w_1 = load %w[%k_block, %k] : f32[8]
            %e = expand %w_1 dim 0
            %p = mul %v, %e
            %r = reduce sum %p dim 1
            %t = add %acc, %r
            yield %t
          }
          yield %s_1
        }
        store %s, %y[%b]
      }
    }
    ```
    """

    name = "block"
    loop: str = loop()
    size: int = integer()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        f = facts(k)
        site = f.loops.get(self.loop)
        if site is None or not isinstance(site.loop, For):
            return NoMatch(f"@{k.name} has no sequential loop %{self.loop}")
        extent = f.extent(site.var)
        if extent is None or site.var.lo != Num(0):
            return NoMatch(f"%{self.loop} does not run from 0 to a size that is known")
        if not 1 < self.size < extent or extent % self.size:
            return NoMatch(f"{extent} indices are not several blocks of {self.size}")
        if why := range_reason(f, site, self.size % site.var.step == 0):
            return NoMatch(why)
        for s in statements(site.loop.body):
            if isinstance(s, Iota) and s.index == self.loop:
                return NoMatch(f"%{s.result} is the index %{self.loop} itself")
            if isinstance(s, For) and self.loop in (*variables(s.var.lo), *variables(s.var.hi)):
                return NoMatch(f"the range of %{s.var.name} depends on %{self.loop}")
            coords = s.coordinates() if isinstance(s, Op) else ()
            names = {n for c in coords for n in variables(c)}
            if self.loop in names and (values := sorted(names - f.loops.keys())):
                return NoMatch(f"%{values[0]} says where, together with %{self.loop}")
        return _blocked(f, site.path, site.loop, extent, self.size)

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        f = facts(k)
        for site in f.loops.values():
            if isinstance(site.loop, For) and site.var.tile is not None:
                for size in sorted(_divisors(site.loop)):
                    new = cls(k.name, site.var.name, size)
                    if not isinstance(new.change(k), NoMatch):
                        yield new


def _divisors(s: For) -> set[int]:
    """Numbers by which the loop's index is divided in what is addressed."""
    found: set[int] = set()

    def look(e: Expr) -> None:
        if isinstance(e, Bin) and e.op == "//" and e.lhs == Var(s.var.name):
            found.add(number(e.rhs) or 0)

    for op in statements(s.body):
        if isinstance(op, Op):
            for c in op.coordinates():
                rewrite(c, look)
    return found


def _blocked(f: Facts, path: tuple[int, ...], s: For, extent: int, size: int) -> Kernel | NoMatch:
    fresh = Fresh(f.kernel)
    outer = LoopVar(fresh(f"{s.var.name}_block"), Num(0), Num(extent // size))
    places = _Places(f, fresh, s.var.name, outer.name, size)
    body = places.block(s.body)
    if places.same:
        return NoMatch(f"%{places.same[0]} is addressed alike throughout a block")
    carried = {c: fresh(f"{c}_block") for c, _ in s.carries}
    results = tuple(map(fresh, s.results))
    inits: tuple[tuple[str, Operand], ...] = tuple(carried.items())
    inner = replace(s, var=replace(s.var, hi=Num(size)), body=body, carries=inits, results=results)
    end = (Yield(results),) if results else ()
    around = For(outer, (inner, *end), tuple((carried[c], x) for c, x in s.carries), s.results, 1)
    return splice(f.kernel, path, (around,))


class _Places:
    """Says where an index is by its block and its place there."""

    def __init__(self, f: Facts, fresh: Fresh, name: str, block: str, size: int) -> None:
        self.f, self.fresh, self.name = f, fresh, name
        extent = f.extent(f.loops[name].var) or 0
        self.spans: Spans = {
            block: Interval(0, extent // size - 1), name: Interval(0, size - 1)
        }  # fmt: skip
        self.to = Bin("+", Bin("*", Var(block), Num(size)), Var(name))
        self.same: list[str] = []
        """Tensors of which a tile would have no dimension along the loop any more."""

    def block(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        return tuple(x for s in body for x in self.statement(s))

    def statement(self, s: Stmt) -> tuple[Stmt, ...]:
        if isinstance(s, For):
            return (replace(s, body=self.block(s.body)),)
        if not isinstance(s, Load | Store | Accumulate):
            return (s,)
        coords = tuple(map(self.expr, s.coords))
        old, new = self.tiled(s.coords), self.tiled(coords)
        if old == new:
            return (replace(s, coords=coords),)
        if set(old) != set(new):
            self.same.append(s.tensor)
            return (s,)
        # A tile's dimensions are in the order in which its indices appear.
        to_new, to_old = tuple(map(old.index, new)), tuple(map(new.index, old))
        turned = self.fresh(str(s.result if isinstance(s, Load) else s.x))
        if isinstance(s, Load):
            type_ = s.type.with_shape(tuple(s.type.shape[i] for i in to_new))
            load = replace(s, coords=coords, type=type_, result=turned)
            return (load, Permute(turned, to_old, result=s.result))
        return (Permute(s.x, to_new, result=turned), replace(s, x=turned, coords=coords))

    def tiled(self, coords: Iterable[Expr]) -> list[str]:
        """What gives a tile its dimensions, in order."""
        names = dict.fromkeys(n for c in coords for n in variables(c))
        return [n for n in names if self.f.axes.of_loop(n) is not None]

    def expr(self, e: Expr) -> Expr:
        if self.name not in variables(e):
            return e
        return rewrite(substitute(e, {self.name: self.to}), self.folded)

    def folded(self, e: Expr) -> Expr | None:
        """Quotients and remainders of the index, as far as what is known of it folds them."""
        match e:
            case Bin("%", x, n) if self.name in variables(x):
                return mod(expanded(x), n, self.spans)
            case Bin("//", x, Num(int() as n)) if self.name in variables(x) and n > 0:
                blocks, rest = split(expanded(x), n)
                own = floordiv(rest, Num(n), self.spans)
                return own if blocks is None else add(blocks, own)
            case Bin("+", x, y) if self.name in variables(e):
                return add(x, y)
        return None
