"""Mean and squared deviations in one pass, tile by tile."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ke_ir.expr import Expr, Num
from ke_ir.ir import Kernel
from ke_ir.ops import Binary, Cast, Full, Iota, Load, Reduce, Select
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.rewrites.base import NoMatch, register_rewrite
from ke_ir.rewrites.body import facts, split_yield
from ke_ir.rewrites.names import Fresh, Renamer, copied, used_in
from ke_ir.rewrites.padding import Padding, divides, origin
from ke_ir.rewrites.passes import Pair, PairRewrite, joined, simplified
from ke_ir.types import DType, TileType


@register_rewrite
@dataclass(frozen=True)
class Welford(PairRewrite):
    """A sum, then the squared deviations from the mean, in one loop.

    Each tile gives its own sum and its squared deviations from its own mean; two parts of n and t
    elements whose means differ by d then have together the sum of their squared deviations and
    ``d*d * n*t / (n + t)`` (Chan, Golub and LeVeque, 1983). Unlike a sum of squares less the square
    of a sum, no large numbers cancel: the result is as accurate as that of two passes.

    ``welford(@deviations, %d, %e)``

    Before:

    ```
    kernel @deviations(%x: f32[B, D]) -> (%y: f32[B])
    dims B in 1..64 = 5, D = 10
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %s = for %d = 0 to D tile 4 carry (%si = %zero) {
          %v = load %x[%b, %d] : f32[2, 4]
          %r = reduce sum %v dim 1
          %t = add %si, %r
          yield %t
        }
        %n = full D : f32
        %mean = div %s, %n
        %me = expand %mean dim 1
        %size = full D : i32
        %q = for %e = 0 to D tile 4 carry (%qi = %zero) {
          %w = load %x[%b, %e] : f32[2, 4]
          %z = sub %w, %me
          %zz = mul %z, %z
          %i = iota %e : i32[4]
          %in = cmp lt %i, %size
          %live = expand %in dim 0
          %m = select %live, %zz, 0.0
          %p = reduce sum %m dim 1
          %u = add %qi, %p
          yield %u
        }
        store %q, %y[%b]
      }
    }
    ```

    After:

    ```
    kernel @deviations(%x: f32[B, D]) -> (%y: f32[B])
    dims B in 1..64 = 5, D = 10
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %size = full D : i32
        %s, %q = for %d = 0 to D tile 4 carry (%si = %zero, %qi = %zero) {
          %v = load %x[%b, %d] : f32[2, 4]
          %r = reduce sum %v dim 1
          %t = add %si, %r
          %at = iota %d : i32[4]
          %first = reduce min %at dim 0
          %last = reduce max %at dim 0
          %next = add %last, 1
          %end = min %next, %size
          %before = cast %first : f32
          %so_far = cast %end : f32
          %here = sub %so_far, %before
          %tile_mean = div %r, %here
          %me = expand %tile_mean dim 1
          %z = sub %v, %me
          %zz = mul %z, %z
          %in = cmp lt %at, %size
          %live = expand %in dim 0
          %m = select %live, %zz, 0.0
          %p = reduce sum %m dim 1
          %some = max %before, 1.0
          %mean_before = div %si, %some
          %apart = sub %tile_mean, %mean_before
          %square = mul %apart, %apart
          %both = mul %before, %here
          %weight = div %both, %so_far
          %between = mul %square, %weight
          %within = add %p, %between
          %u = add %qi, %within
          yield %t, %u
        }
        store %q, %y[%b]
      }
    }
    ```
    """

    name = "welford"

    def merge(self, pair: Pair) -> Kernel | NoMatch:
        return _Moments(pair).run()


class _Moments:
    def __init__(self, pair: Pair) -> None:
        self.pair, self.kernel = pair, pair.kernel
        self.f = facts(pair.kernel)
        self.fresh = Fresh(pair.kernel)
        self.out: list[Stmt] = []

    def run(self) -> Kernel | NoMatch:
        p = self.pair
        means = {origin(self.f, n) for n in p.bridges}
        if len(means) != 1:
            return NoMatch(f"%{p.second.var.name} does not use the mean of %{p.first.var.name}")
        (mean,) = means
        division = self._definition(mean)
        if not (isinstance(division, Binary) and division.fn == "div"
                and division.x in p.first.results and self._is_count(division.y)):  # fmt: skip
            return NoMatch(f"%{mean} is not a sum divided by the number of its terms")
        place = p.first.results.index(str(division.x))
        total = p.first.carries[place][0]
        inner, yields = split_yield(p.first.body)
        part = self._summand(total, yields[place])
        if part is None or len(p.second.carries) != 1:
            return NoMatch(f"%{division.x} is not a sum over tiles of %{p.first.var.name}")
        square = self._square(mean)
        if isinstance(square, NoMatch):
            return square
        term, squares = square
        if not self._alike(term, part.x):
            return NoMatch(f"%{term} is not what %{part.result} sums")
        yield_ = self._body(part, total, mean, squares)
        merged = joined(
            p, (*inner, *self.out), (*p.first.carries, *p.second.carries), (*yields, yield_),
            (*p.first.results, *p.second.results),
        )  # fmt: skip
        return simplified(p.with_loop(merged), p.first.var.name)

    def _definition(self, x: Operand | None) -> Stmt | None:
        return self.f.definitions.get(x) if isinstance(x, str) else None

    def _is_count(self, x: Operand) -> bool:
        """True for the number of indices that the loops run over."""
        s = self._definition(x)
        v = self.pair.first.var
        value: Any = s.value if isinstance(s, Full) else x
        e: Expr = value if isinstance(value, Expr) else Num(value)
        return v.lo == Num(0) and e == v.hi

    def _summand(self, c: str, y: Operand) -> Reduce | None:
        """``reduce sum`` along the loop's axis, where ``y`` adds it to ``c``."""
        s = self._definition(y)
        if not (isinstance(s, Binary) and s.fn == "add" and c in (s.x, s.y)):
            return None
        part = self._definition(s.y if s.x == c else s.x)
        if isinstance(part, Reduce) and part.kind == "sum" and self._along(part):
            return part
        return None

    def _along(self, s: Reduce) -> bool:
        found = self.f.axes.of(str(s.x))[s.dim]
        loops = (self.pair.first.var.name, self.pair.second.var.name)
        return found in [self.f.axes.of_loop(n) for n in loops]

    def _square(self, mean: str) -> tuple[str, Reduce] | NoMatch:
        """The value whose squared deviations the second loop sums, and that sum of a tile."""
        second = self.pair.second
        ((c, _),) = second.carries
        _, (y,) = split_yield(second.body)
        part = self._summand(c, y)
        other = NoMatch(f"%{c} is not a sum of squared differences from the mean")
        if part is None:
            return other
        s = self._definition(part.x)
        masked = False
        if isinstance(s, Select) and s.y == 0:
            masked = Padding(self.f, second.var).is_range_test(s.c)
            s = self._definition(s.x)
        if not (isinstance(s, Binary) and s.fn == "mul" and s.x == s.y):
            return other
        difference = self._definition(s.x)
        if not (isinstance(difference, Binary) and difference.fn == "sub"):
            return other
        sides = [difference.x, difference.y]
        if [origin(self.f, x) == mean for x in sides].count(True) != 1:
            return other
        if not masked and not divides(self.f, second.var.step, second.var):
            return NoMatch(f"%{part.x} counts what lies beyond the end of %{second.var.name}")
        term = next(x for x in sides if origin(self.f, x) != mean)
        return (term, part) if isinstance(term, str) else other

    def _alike(self, a: Operand, b: Operand) -> bool:
        """True if ``a`` in the second loop is ``b`` in the first, but for padding."""
        if a == b:
            return True
        s, t = self._definition(a), self._definition(b)
        if type(s) is not type(t) or not isinstance(s, Op) or not isinstance(t, Op):
            return False
        return all(self._equal(s, t, f.name, f.metadata.get("kind")) for f in fields(s))

    def _equal(self, s: Op, t: Op, name: str, kind: str | None) -> bool:
        u, v = getattr(s, name), getattr(t, name)
        here = {self.pair.second.var.name: self.pair.first.var.name}
        if name in ("result", "loc") or (name == "fill" and isinstance(s, Load)):
            return True
        if kind == "operand":
            return self._alike(u, v)
        if kind == "index":
            return bool(here.get(u, u) == v)
        if kind == "coords":
            return bool(tuple(map(Renamer(dict(here)).expr, u)) == v)
        return bool(u == v)

    # The merged body

    def _new(self, op: Op) -> str:
        self.out.append(op)
        return str(op.result)

    def _binary(self, fn: str, x: Operand, y: Operand, name: str) -> str:
        return self._new(Binary(fn, x, y, result=self.fresh(name)))

    def _body(self, part: Reduce, total: str, mean: str, squares: Reduce) -> str:
        """Statements after the first loop's; returns the sum of squared deviations so far."""
        var, fresh = self.pair.first.var, self.fresh
        d = self.f.types[str(part.result)].dtype
        at = self._new(Iota(var.name, TileType(DType.I32, (var.step,)), result=fresh("at")))
        first = self._new(Reduce("min", at, 0, result=fresh("first")))
        hi = var.hi.value if isinstance(var.hi, Num) else var.hi
        size = self._new(Full(hi, TileType(DType.I32), result=fresh("size")))
        last = self._new(Reduce("max", at, 0, result=fresh("last")))
        end = self._binary("min", self._binary("add", last, 1, "next"), size, "end")
        before = self._new(Cast(first, d, result=fresh("before")))
        so_far = self._new(Cast(end, d, result=fresh("so_far")))
        here = self._binary("sub", so_far, before, "here")
        tile_mean = self._binary("div", str(part.result), here, "tile_mean")
        within = self._deviations(mean, tile_mean, squares)
        some = self._binary("max", before, 1.0, "some")
        apart = self._binary(
            "sub", tile_mean, self._binary("div", total, some, "mean_before"), "apart"
        )
        square = self._binary("mul", apart, apart, "square")
        weight = self._binary("div", self._binary("mul", before, here, "both"), so_far, "weight")
        between = self._binary("mul", square, weight, "between")
        ((c, _),) = self.pair.second.carries
        return self._binary("add", c, self._binary("add", within, between, "within"), c)

    def _deviations(self, mean: str, tile_mean: str, squares: Reduce) -> str:
        """The second loop's body about the mean of this tile, up to the sum of its squares."""
        names: dict[str, Operand] = {mean: tile_mean}
        wanted = set(self.pair.bridges)
        chain: list[Stmt] = []
        for s in reversed(self.pair.bound):
            if isinstance(s, Op) and s.result in wanted and s.result != mean:
                chain.append(s)
                wanted |= used_in((s,))
        names[self.pair.second.var.name] = self.pair.first.var.name
        inner, _ = split_yield(self.pair.second.body)
        kept = inner[: next(i for i, s in enumerate(inner) if s is squares) + 1]
        self.out += copied((*reversed(chain), *kept), self.fresh, names)
        return str(names[str(squares.result)])
