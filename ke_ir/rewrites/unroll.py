"""Repeating a loop's body instead of iterating."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from ke_ir.expr import Bin, Expr, Num, Var, evaluate_int, rewrite, substitute
from ke_ir.ir import For, Kernel, LoopVar, Module, Yield
from ke_ir.ops import Binary, Full, Iota
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.rewrites.base import KernelRewrite, NoMatch, integer, loop, register_rewrite
from ke_ir.rewrites.body import Facts, LoopSite, facts, splice, split_yield
from ke_ir.rewrites.names import Fresh, copied, renamed
from ke_ir.verify import verify

MAX_TRIPS = 16
"""Most iterations that are offered to be written out."""
FACTORS = (2, 4)


@register_rewrite
@dataclass(frozen=True)
class Unroll(KernelRewrite):
    """Repeat the body of an untiled loop: all of it, or so many iterations at a time.

    The number of iterations must be known, and a multiple of ``factor``; a factor equal to it
    removes the loop.

    ``unroll(@taps, %t, 2)``

    Before:

    ```
    kernel @taps(%x: f32[N + 1], %w: f32[T]) -> (%y: f32[N])
    dims N = 6, T = 2
    {
      parallel %n = 0 to N tile 4 {
        %zero = full 0.0 : f32[4]
        %r = for %t = 0 to T carry (%a = %zero) {
          %v = load %x[%n + %t] : f32[4]
          %u = load %w[%t] : f32
          %p = mul %v, %u
          %q = add %a, %p
          yield %q
        }
        store %r, %y[%n]
      }
    }
    ```

    After:

    ```
    kernel @taps(%x: f32[N + 1], %w: f32[T]) -> (%y: f32[N])
    dims N = 6, T = 2
    {
      parallel %n = 0 to N tile 4 {
        %zero = full 0.0 : f32[4]
        %v = load %x[%n] : f32[4]
        %u = load %w[0] : f32
        %p = mul %v, %u
        %q = add %zero, %p
        %v_1 = load %x[%n + 1] : f32[4]
        %u_1 = load %w[1] : f32
        %p_1 = mul %v_1, %u_1
        %q_1 = add %q, %p_1
        store %q_1, %y[%n]
      }
    }
    ```
    """

    name = "unroll"
    loop: str = loop()
    factor: int = integer()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        f = facts(k)
        site = f.loops.get(self.loop)
        if site is None or not isinstance(site.loop, For):
            return NoMatch(f"@{k.name} has no sequential loop %{self.loop}")
        if site.var.tile is not None:
            return NoMatch(f"%{self.loop} is tiled: retile it instead")
        trips = f.extent(site.var)
        if trips is None or trips == 0:
            return NoMatch(f"how often the loop %{self.loop} runs is not known")
        if self.factor < 1 or trips % self.factor or (self.factor == 1 and trips > 1):
            return NoMatch(f"{trips} iterations are not a multiple of {self.factor}, or not fewer")
        new = _unrolled(f, site, site.loop, trips, self.factor)
        if found := verify(Module((new,))):
            return NoMatch(f"written out, {found[0].message}")
        return new

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        f = facts(k)
        for site in f.loops.values():
            if isinstance(site.loop, For) and site.var.tile is None:
                trips = f.extent(site.var) or 0
                factors = [n for n in FACTORS if n < trips]
                for n in (*factors, *((trips,) if 0 < trips <= MAX_TRIPS else ())):
                    new = cls(k.name, site.var.name, n)
                    if not isinstance(new.change(k), NoMatch):
                        yield new


def _unrolled(f: Facts, site: LoopSite, s: For, trips: int, factor: int) -> Kernel:
    fresh = Fresh(f.kernel)
    whole = trips == factor
    var = LoopVar(fresh(s.var.name), Num(0), Num(trips // factor))
    now: dict[str, Operand] = {c: c for c, _ in s.carries} if not whole else dict(s.carries)
    body, yields = split_yield(s.body)
    out: list[Stmt] = []
    for i in range(factor):
        index = _sum(s.var.lo, Num(i)) if whole else _sum(
            s.var.lo, _sum(Bin("*", Var(var.name), Num(factor)), Num(i))
        )  # fmt: skip
        names = dict(now)
        part = copied(body, fresh, names) if i else renamed(body, names)
        out += _Placer(s.var.name, index, None if whole else var, fresh).block(part)
        (end,) = renamed((Yield(yields),), names if i else now)
        assert isinstance(end, Yield)
        now = dict(zip(now, end.values, strict=True))
    if whole:
        results: dict[str, Operand] = dict(zip(s.results, now.values(), strict=True))
        new = splice(f.kernel, site.path, out)
        return replace(new, body=renamed(new.body, results))
    end_ = (Yield(tuple(now.values())),) if now else ()
    return splice(f.kernel, site.path, (replace(s, var=var, body=(*out, *end_)),))


def _sum(a: Expr, b: Expr) -> Expr:
    """``a + b`` without a term that is zero."""
    if a == Num(0):
        return b
    return a if b == Num(0) else Bin("+", a, b)


class _Placer:
    """Replaces a scalar loop variable by an expression of another one, or of none."""

    def __init__(self, name: str, to: Expr, var: LoopVar | None, fresh: Fresh) -> None:
        self.name, self.to, self.var, self.fresh = name, to, var, fresh

    def expr(self, e: Expr) -> Expr:
        return _folded(substitute(e, {self.name: self.to}))

    def block(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        return tuple(x for s in body for x in self.statement(s))

    def statement(self, s: Stmt) -> tuple[Stmt, ...]:
        if isinstance(s, Iota) and s.index == self.name:
            return self.index_value(s)
        if isinstance(s, Op) and (coords := s.coordinates()):
            return (replace(s, coords=tuple(map(self.expr, coords))),)  # type: ignore[call-arg]
        if isinstance(s, For):
            inner = replace(s.var, lo=self.expr(s.var.lo), hi=self.expr(s.var.hi))
            return (replace(s, var=inner, body=self.block(s.body)),)
        return (s,)

    def index_value(self, s: Iota) -> tuple[Stmt, ...]:
        """The index as a value: a size, or computed from the loop variable that is left."""
        if self.var is None:
            return (_number(self.to, s, str(s.result)),)
        index = Var(self.var.name)
        factor = next(n for n in _terms(self.to) if isinstance(n, Bin) and n.lhs == index).rhs
        assert isinstance(factor, Num)
        rest = substitute(self.to, {self.var.name: Num(0)})
        at, scaled, base = self.fresh("at"), self.fresh("at"), self.fresh("base")
        return (
            Iota(self.var.name, s.type, result=at),
            Binary("mul", at, int(factor.value), result=scaled),
            _number(_folded(rest), s, base),
            Binary("add", scaled, base, result=s.result),
        )


def _number(e: Expr, like: Iota, name: str) -> Full:
    return Full(e.value if isinstance(e, Num) else e, like.type, result=name)


def _terms(e: Expr) -> Iterator[Expr]:
    if isinstance(e, Bin) and e.op == "+":
        yield from _terms(e.lhs)
        yield from _terms(e.rhs)
    else:
        yield e


def _folded(e: Expr) -> Expr:
    """``e`` with sums of numbers made one number, and without adding zero."""

    def fold(n: Expr) -> Expr | None:
        if isinstance(n, Bin) and isinstance(n.lhs, Num) and isinstance(n.rhs, Num):
            return Num(evaluate_int(n, {}))
        if isinstance(n, Bin) and n.op in "+-" and n.rhs == Num(0):
            return n.lhs
        if isinstance(n, Bin) and n.op == "+" and n.lhs == Num(0):
            return n.rhs
        return _regrouped(n)

    return rewrite(e, fold)


def _regrouped(n: Expr) -> Expr | None:
    """``(x + 2) - 1`` as ``x + 1``."""
    match n:
        case Bin("+" | "-" as op, Bin("+" | "-" as inner, x, Num(int() as a)), Num(int() as b)):
            total = (a if inner == "+" else -a) + (b if op == "+" else -b)
            if total == 0:
                return x
            return Bin("+", x, Num(total)) if total > 0 else Bin("-", x, Num(-total))
    return None
