"""One pass in place of two: sums scaled by a maximum follow the maximum as it grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ke_ir.axes import AxisId
from ke_ir.ir import For, Kernel
from ke_ir.ops import (
    Binary,
    Broadcast,
    Cast,
    Dot,
    Expand,
    Full,
    Permute,
    Reduce,
    Select,
    Unary,
)
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.rewrites.base import NoMatch, register_rewrite
from ke_ir.rewrites.body import facts, split_yield
from ke_ir.rewrites.names import Fresh, copied, defined_in, used_in
from ke_ir.rewrites.padding import origin
from ke_ir.rewrites.passes import Pair, PairRewrite, joined, simplified
from ke_ir.types import DType, TileType

LOWEST = {
    DType.F64: -1.7976931348623157e308, DType.F32: -3.4028234663852886e38, DType.F16: -65504.0,
    DType.BF16: -3.3895313892515355e38,
}  # fmt: skip
"""The lowest finite number of a dtype, from which a running maximum starts."""


@register_rewrite
@dataclass(frozen=True)
class Online(PairRewrite):
    """A maximum, then sums of what is scaled by ``exp(-maximum)``, in one loop.

    When a tile raises the maximum from m to m', what was summed so far is multiplied by
    ``exp(m - m')``. For softmax, logsumexp and, where the second loop holds a ``dot``, attention.
    The maximum starts from the lowest finite number of its dtype, so that no difference of two
    infinities arises; a row whose every element is minus infinity therefore has that number as its
    maximum, and 0 as its sum (not NaN). Each rescaling rounds once, and factors are at most 1:
    the error of a sum grows by at most one rounding for each tile.

    ``online(@softmax_l, %d, %e)``

    Before:

    ```
    kernel @softmax_l(%x: f32[B, D]) -> (%l: f32[B])
    dims B in 1..64 = 5, D = 12
    {
      parallel %b = 0 to B tile 2 {
        %low = full -inf : f32[2]
        %m = for %d = 0 to D tile 4 carry (%mi = %low) {
          %v = load %x[%b, %d else -inf] : f32[2, 4]
          %r = reduce max %v dim 1
          %t = max %mi, %r
          yield %t
        }
        %zero = full 0.0 : f32[2]
        %me = expand %m dim 1
        %s = for %e = 0 to D tile 4 carry (%si = %zero) {
          %w = load %x[%b, %e else -inf] : f32[2, 4]
          %z = sub %w, %me
          %p = exp %z
          %q = reduce sum %p dim 1
          %u = add %si, %q
          yield %u
        }
        store %s, %l[%b]
      }
    }
    ```

    After:

    ```
    kernel @softmax_l(%x: f32[B, D]) -> (%l: f32[B])
    dims B in 1..64 = 5, D = 12
    {
      parallel %b = 0 to B tile 2 {
        %zero = full 0.0 : f32[2]
        %low = full -3.4028234663852886e+38 : f32[2]
        %m, %s = for %d = 0 to D tile 4 carry (%mi = %low, %si = %zero) {
          %v = load %x[%b, %d else -inf] : f32[2, 4]
          %r = reduce max %v dim 1
          %t = max %mi, %r
          %te = expand %t dim 1
          %by = sub %mi, %t
          %fix = exp %by
          %sf = mul %si, %fix
          %z = sub %v, %te
          %p = exp %z
          %q = reduce sum %p dim 1
          %u = add %sf, %q
          yield %t, %u
        }
        store %s, %l[%b]
      }
    }
    ```
    """

    name = "online"

    def merge(self, pair: Pair) -> Kernel | NoMatch:
        return _Merge(pair).run()


@dataclass(frozen=True)
class Scaled:
    """How a value depends on the maximum m: ``fn(by * (X - m))`` times what does not, if ``fn``.

    Without ``fn`` it is ``by * m`` (``shift`` false) or ``X - by * m`` (true).
    """

    by: float = 1.0
    fn: str = ""
    shift: bool = False


class _Unscaled(Exception):
    """A value depends on the maximum in another way."""


class _Merge:
    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.f = facts(pair.kernel)
        self.fresh = Fresh(pair.kernel)
        self.scaled: dict[str, Scaled] = {}
        self.rows: tuple[AxisId, ...] = ()

    def run(self) -> Kernel | NoMatch:
        p = self.pair
        first, second = p.first, p.second
        tops = {origin(self.f, n) for n in p.bridges}
        if len(tops) != 1:
            return NoMatch(
                f"%{second.var.name} depends on %{first.var.name} by more than one result"
                if tops else f"%{second.var.name} does not depend on %{first.var.name}"
            )  # fmt: skip
        (m,) = tops
        if m not in first.results:
            return NoMatch(f"%{m} is not what %{first.var.name} gives")
        place = first.results.index(m)
        carried, init = first.carries[place]
        inner, yields = split_yield(first.body)
        top = yields[place]
        if not self._is_running_maximum(carried, top):
            return NoMatch(f"%{m} is not a running maximum")
        start = self._start(init)
        if isinstance(start, NoMatch):
            return start
        assert isinstance(top, str)
        self.rows = self.f.axes.of(m)
        if why := self._why_not_scaled(p.bridges):
            return NoMatch(why)
        body, sums = self._rescaled(carried, top)
        carries = [(n, x) for n, x in first.carries]
        extra: list[Stmt] = []
        if start is not None:
            extra.append(start)
            carries[place] = (carried, str(start.result))
        merged = joined(
            p, (*inner, *body), (*carries, *second.carries),
            (*yields, *sums), (*first.results, *second.results),
        )  # fmt: skip
        return simplified(p.with_loop(merged, extra), first.var.name, (top,))

    def _definition(self, x: Operand | None) -> Stmt | None:
        return self.f.definitions.get(x) if isinstance(x, str) else None

    def _is_running_maximum(self, carried: str, top: Operand) -> bool:
        s = self._definition(top)
        return isinstance(s, Binary) and s.fn == "max" and carried in (s.x, s.y)

    def _start(self, init: Operand) -> Op | NoMatch | None:
        """What the maximum starts from instead, if that must change."""
        s = self._definition(init)
        if not isinstance(s, Full) or not isinstance(s.value, int | float):
            return NoMatch(f"the maximum starts from %{init}, not from a number")
        if s.value != float("-inf"):
            return None
        if s.type.dtype not in LOWEST:
            return NoMatch(f"{s.type.dtype} has no lowest number to start from")
        return Full(LOWEST[s.type.dtype], s.type, result=self.fresh(f"{init}_low"))

    # How the second loop depends on the maximum

    def _why_not_scaled(self, bridges: set[str]) -> str:
        """Why what the second loop carries is not scaled by the maximum; empty if all is."""
        for n in bridges:
            self.scaled[n] = Scaled()
        second = self.pair.second
        inner, yields = split_yield(second.body)
        carried = {c: y for (c, _), y in zip(second.carries, yields, strict=True)}
        updates = {y for y in carried.values() if isinstance(y, str)}
        try:
            for s in inner:
                if isinstance(s, Op) and s.result is not None and s.result not in updates:
                    self._op(s)
                elif isinstance(s, For) and used_in((s,)) & set(self.scaled):
                    return f"the loop %{s.var.name} uses what is scaled by the maximum"
            for c, y in carried.items():
                self._update(c, y)
        except _Unscaled as bad:
            return str(bad)
        for c, y in carried.items():
            users = [s for _, s in self.f.users.get(c, [])]
            if users != [self._definition(y)]:
                return f"%{c} is used otherwise than in its sum"
        return ""

    def _update(self, c: str, y: Operand) -> None:
        s = self._definition(y)
        if isinstance(s, Binary) and s.fn == "add" and c in (s.x, s.y):
            part = self.scaled.get(str(s.y if s.x == c else s.x))
        elif isinstance(s, Dot) and s.acc == c:
            part = self._dot(s)
        else:
            raise _Unscaled(f"%{c} is not a sum")
        if part is None or not part.fn:
            raise _Unscaled(f"%{c} is a sum of what is not scaled by the maximum")
        found = self.f.axes.of(c)
        places = [found.index(a) for a in self.rows if found.count(a) == 1]
        if len(places) != len(self.rows) or places != sorted(places):
            raise _Unscaled(f"%{c} does not have the dimensions of the maximum")
        self.scaled[c] = part

    def _op(self, s: Op) -> None:
        assert s.result is not None
        known = [self.scaled.get(x) if isinstance(x, str) else None for x in s.operands()]
        if any(known):
            self.scaled[s.result] = self._result(s, known)

    def _result(self, s: Op, known: list[Scaled | None]) -> Scaled:
        first = known[0]
        match s:
            case Expand() | Broadcast() | Permute() if first:
                return first
            case Cast(dtype=d) if first and d.is_float:
                return first
            case Binary(fn="sub") if len(known) == 2 and not first and known[1]:
                if not known[1].fn and not known[1].shift:
                    return replace(known[1], shift=True)
            case Binary(fn="mul", x=x, y=y):
                return self._product(known[0], known[1], x, y)
            case Binary(fn="div") if first and first.fn and not known[1]:
                return first
            case Binary(fn="add" | "sub") if first and first.fn and first == known[1]:
                return first
            case Unary(fn="exp" | "exp2" as fn) if first and first.shift:
                return replace(first, fn=fn, shift=False)
            case Unary(fn="neg") if first and first.fn:
                return first
            case Select(x=x, y=y) if not first:
                parts = [v for v, o in ((known[1], x), (known[2], y)) if v or o != 0]
                if parts and parts[0] and parts[0].fn and all(v == parts[0] for v in parts):
                    return parts[0]
            case Reduce(kind="sum", x=x, dim=dim) if first and first.fn:
                if self.f.axes.of(str(x))[dim] not in self.rows:
                    return first
            case Dot(acc=None):
                if got := self._dot(s):
                    return got
        raise _Unscaled(f"%{s.result} depends on the maximum otherwise than by its exponential")

    def _product(self, a: Scaled | None, b: Scaled | None, x: Operand, y: Operand) -> Scaled:
        got, other, by = (a, b, y) if a else (b, a, x)
        if got and not other:
            if got.fn:
                return got
            if isinstance(by, int | float) and by > 0 and not (got.shift and got.by != 1.0):
                return replace(got, by=got.by * by)
        raise _Unscaled("the maximum is multiplied by what is not a positive number")

    def _dot(self, s: Dot) -> Scaled | None:
        parts = [self.scaled.get(x) if isinstance(x, str) else None for x in (s.a, s.b)]
        inner = self.f.axes.of(str(s.a))[-1]
        got = [v for v in parts if v]
        if len(got) == 1 and got[0].fn and inner not in self.rows:
            return got[0]
        return None

    # The second loop's body beside the first's

    def _rescaled(self, carried: str, top: str) -> tuple[list[Stmt], tuple[Operand, ...]]:
        """The second body with its sums rescaled: statements, and the sums that it yields."""
        names: dict[str, Operand] = {}
        out: list[Stmt] = []
        for s in self._bridge():
            (new,) = copied((s,), self.fresh, names | {self._top(): top})
            names[str(s.result)] = str(new.result)  # type: ignore[attr-defined]
            out.append(new)
        names[self._top()] = top
        fixes: dict[Scaled, str] = {}
        sums: dict[str, Operand] = {}
        for c, _ in self.pair.second.carries:
            how = self.scaled[c]
            if how not in fixes:
                fixes[how] = self._factor(how, carried, top, out)
            sums[c] = self._times(c, fixes[how], out)
        inner, yields = split_yield(self.pair.second.body)
        names[self.pair.second.var.name] = self.pair.first.var.name
        body = copied(inner, self.fresh, names | sums)
        # `copied` names definitions in order; the same order gives the yields' new names.
        renames = dict(zip(defined_in(inner), defined_in(body), strict=True))
        sums_next = tuple(renames.get(y, y) if isinstance(y, str) else y for y in yields)
        return [*out, *body], sums_next

    def _top(self) -> str:
        (m,) = {origin(self.f, n) for n in self.pair.bridges}
        return m

    def _bridge(self) -> Iterator[Op]:
        """Changes of shape between the loops by which the second one uses the maximum."""
        wanted = set(self.pair.bridges)
        chain: list[Op] = []
        for s in reversed(self.pair.bound):
            if isinstance(s, Op) and s.result in wanted:
                chain.append(s)
                wanted |= used_in((s,))
        yield from reversed(chain)

    def _factor(self, how: Scaled, carried: str, top: str, out: list[Stmt]) -> str:
        x = Binary("sub", carried, top, result=self.fresh("grown"))
        out.append(x)
        if how.by != 1.0:
            x = Binary("mul", str(x.result), how.by, result=self.fresh("grown"))
            out.append(x)
        fix = Unary(how.fn, str(x.result), result=self.fresh("fix"))
        out.append(fix)
        return str(fix.result)

    def _times(self, c: str, fix: str, out: list[Stmt]) -> str:
        """``c`` times a factor that has the dimensions of the maximum."""
        axes = self.f.axes.of(c)
        if self.rows:
            have = {axes.index(a) for a in self.rows}
            for d in range(len(axes)):
                if d not in have:
                    e = Expand(fix, d, result=self.fresh("fix"))
                    out.append(e)
                    fix = str(e.result)
        t = self.f.types[c]
        want = _maximum_dtype(self.f.types[self._top()], t)
        if want is not None:
            cast = Cast(fix, want, result=self.fresh("fix"))
            out.append(cast)
            fix = str(cast.result)
        s = Binary("mul", c, fix, result=self.fresh(f"{c}_fixed"))
        out.append(s)
        return str(s.result)


def _maximum_dtype(m: TileType, t: TileType) -> DType | None:
    """The dtype to which a factor must be cast, if it is not that of the sum."""
    return None if m.dtype is t.dtype else t.dtype
