"""Leaving out the iterations of a loop that a mask makes idle."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from ke_ir.expr import Bin, Call, Expr, Num, Var
from ke_ir.ir import For, Kernel, statements
from ke_ir.ops import Binary, Cmp, Dot, Full, Iota, Reduce, Select, Unary
from ke_ir.ops.base import Op, Operand, Stmt
from ke_ir.rewrites.base import KernelRewrite, NoMatch, loop, register_rewrite
from ke_ir.rewrites.body import Facts, LoopSite, facts, splice, split_yield
from ke_ir.rewrites.padding import SHAPE_OPS, origin
from ke_ir.rewrites.tidy import writes


@register_rewrite
@dataclass(frozen=True)
class BoundLoopByMask(KernelRewrite):
    """End a loop where its mask is false for every row of the tile, as causal attention allows.

    Where ``%j <= %i`` fails for all of a tile, a masked maximum and sum stay as they are, so the
    loop over ``%j`` may end at ``end(%i)``. That each carried value stays is proved by computing
    with what is known of such a tile; running maxima are taken to be finite, as they are once an
    element has been live.

    ``bound_loop_by_mask(@total, %j)``

    Before:

    ```
    kernel @total(%x: f32[N]) -> (%y: f32[N])
    dims N = 12
    {
      parallel %i = 0 to N tile 4 {
        %zero = full 0.0 : f32[4]
        %row = iota %i : i32[4]
        %rows = expand %row dim 1
        %s = for %j = 0 to N tile 2 carry (%acc = %zero) {
          %v = load %x[%j] : f32[2]
          %w = expand %v dim 0
          %col = iota %j : i32[2]
          %cols = expand %col dim 0
          %live = cmp le %cols, %rows
          %m = select %live, %w, 0.0
          %r = reduce sum %m dim 1
          %t = add %acc, %r
          yield %t
        }
        store %s, %y[%i]
      }
    }
    ```

    After:

    ```
    kernel @total(%x: f32[N]) -> (%y: f32[N])
    dims N = 12
    {
      parallel %i = 0 to N tile 4 {
        %zero = full 0.0 : f32[4]
        %row = iota %i : i32[4]
        %rows = expand %row dim 1
        %s = for %j = 0 to end(%i) tile 2 carry (%acc = %zero) {
          %v = load %x[%j] : f32[2]
          %w = expand %v dim 0
          %col = iota %j : i32[2]
          %cols = expand %col dim 0
          %live = cmp le %cols, %rows
          %m = select %live, %w, 0.0
          %r = reduce sum %m dim 1
          %t = add %acc, %r
          yield %t
        }
        store %s, %y[%i]
      }
    }
    ```
    """

    name = "bound_loop_by_mask"
    loop: str = loop()

    def change(self, k: Kernel) -> Kernel | NoMatch:
        f = facts(k)
        site = f.loops.get(self.loop)
        if site is None or not isinstance(site.loop, For):
            return NoMatch(f"@{k.name} has no sequential loop %{self.loop}")
        if writes(site.loop):
            return NoMatch(f"the loop %{self.loop} writes in each iteration")
        masks = list(_masks(f, site))
        if not masks:
            return NoMatch(f"nothing in the loop compares %{self.loop} with an index around it")
        for mask, bound in masks:
            if bound != site.var.hi and _Idle(f, site.loop, mask).keeps_all():
                var = replace(site.var, hi=bound)
                return splice(k, site.path, (replace(site.loop, var=var),))
        return NoMatch(f"an iteration of %{self.loop} that the mask leaves out would change what "
                       "is carried")  # fmt: skip

    @classmethod
    def instances(cls, k: Kernel) -> Iterator[Self]:
        for name, site in facts(k).loops.items():
            if isinstance(site.loop, For):
                made = cls(k.name, name)
                if not isinstance(made.change(k), NoMatch):
                    yield made


def _masks(f: Facts, site: LoopSite) -> Iterator[tuple[str, Expr]]:
    """Comparisons of the loop's index with one around it, and where the loop may end for each."""
    assert isinstance(site.loop, For)
    for s in site.loop.body:
        if not isinstance(s, Cmp) or s.result is None or s.pred not in ("lt", "le", "gt", "ge"):
            continue
        less, more = (s.x, s.y) if s.pred in ("lt", "le") else (s.y, s.x)
        mine, other = _index(f, less), _index(f, more)
        if mine != site.var.name or not other:
            continue
        around = f.loops[other]
        if site.path[: len(around.path)] != around.path:
            continue
        axis = f.axes.of_loop(other)
        if axis is not None and f.axes.combined(axis):
            continue  # rows beyond the end of the other loop would count
        yield s.result, _end(around, site, s.pred in ("le", "ge"))


def _index(f: Facts, x: Operand) -> str:
    s = f.definitions.get(origin(f, x))
    return s.index if isinstance(s, Iota) else ""


def _end(around: LoopSite, site: LoopSite, included: bool) -> Expr:
    """Where ``j <= i`` (or ``j < i``) is false for all live i of a tile from there on."""
    i = Var(around.var.name)
    if around.var.tile is not None:
        end: Expr = Call("end", (i,))
    else:
        end = Bin("+", i, Num(1)) if included else i
    if around.var.hi == site.var.hi or site.var.hi == end:
        return end
    if isinstance(site.var.hi, Call) and end in site.var.hi.args:
        return site.var.hi
    return Call("min", (site.var.hi, end))


@dataclass(frozen=True)
class Same:
    """The elements of a carried value, unchanged."""

    name: str


Known = float | Same | None
"""What a value is in an idle iteration; None if that is not known."""


class _Idle:
    """Computes with what is known of an iteration in which one comparison is false throughout."""

    def __init__(self, f: Facts, loop: For, mask: str) -> None:
        self.f, self.loop, self.mask = f, loop, mask
        self.known: dict[str, Known] = {}

    def keeps_all(self) -> bool:
        """True if every carried value is yielded as it came."""
        for c, _ in self.loop.carries:
            self.known[c] = Same(c)
        body, yields = split_yield(self.loop.body)
        self.block(body)
        names = [c for c, _ in self.loop.carries]
        return all(self.of(y) == Same(c) for y, c in zip(yields, names, strict=True))

    def of(self, x: Operand | None) -> Known:
        if not isinstance(x, str):
            return None if x is None else float(x)
        if x in self.known:
            return self.known[x]
        s = self.f.definitions.get(x)  # defined before the loop
        if isinstance(s, Full) and isinstance(s.value, int | float):
            return float(s.value)
        return self.of(s.x) if isinstance(s, SHAPE_OPS) else None

    def block(self, body: Iterable[Stmt]) -> None:
        for s in body:
            if isinstance(s, For):
                self.nested(s)
            elif isinstance(s, Op) and s.result is not None:
                self.known[s.result] = 0.0 if s.result == self.mask else self.op(s)

    def nested(self, s: For) -> None:
        """A loop inside gives what it starts from if its body keeps that."""
        for n in (x.result for x in statements(s.body) if isinstance(x, Op) and x.result):
            self.known[n] = None
        body, yields = split_yield(s.body)
        start = [self.of(x) for _, x in s.carries]
        self.known |= {c: v for (c, _), v in zip(s.carries, start, strict=True)}
        self.block(body)
        for r, y, v in zip(s.results, yields, start, strict=True):
            self.known[r] = v if self.of(y) == v else None

    def op(self, s: Op) -> Known:
        match s:
            case Full(value=number):
                return float(number) if isinstance(number, int | float) else None
            case Unary(fn=fn, x=x):
                return _number(fn, self.of(x))
            case Binary(fn=fn, x=x, y=y):
                return self.binary(fn, self.of(x), self.of(y))
            case Select(c=c, x=x, y=y):
                got = self.of(c)
                if isinstance(got, float):
                    return self.of(x if got else y)
                a, b = self.of(x), self.of(y)
                return a if a == b else None
            case Reduce(kind=kind, x=x):
                v = self.of(x)
                same = kind in ("max", "min", "any", "all") or (kind, v) in (
                    ("sum", 0.0), ("prod", 1.0)
                )  # fmt: skip
                return v if same and isinstance(v, float) else None
            case Dot(a=a, b=b, acc=acc):
                if 0.0 in (self.of(a), self.of(b)):
                    return 0.0 if acc is None else self.of(acc)
                return None
        return self.of(s.x) if isinstance(s, SHAPE_OPS) else None

    def binary(self, fn: str, x: Known, y: Known) -> Known:
        if isinstance(x, float) and isinstance(y, float):
            return _number(fn, x, y)
        if fn in ("and", "mul") and 0.0 in (x, y):
            return 0.0
        if fn == "sub" and isinstance(x, Same) and x == y:
            return 0.0
        if fn == "sub" and isinstance(x, float) and math.isinf(x) and isinstance(y, Same):
            return x
        neutral = {"add": 0.0, "mul": 1.0, "max": -math.inf, "min": math.inf, "or": 0.0,
                   "and": 1.0}.get(fn)  # fmt: skip
        if neutral is not None and neutral in (x, y):
            return y if x == neutral else x
        return x if fn in ("sub", "div") and y == (0.0 if fn == "sub" else 1.0) else None


def _number(fn: str, *args: Known) -> Known:
    """A function of numbers in float64; None where it is not known, or not a number."""
    if not all(isinstance(a, float) for a in args):
        return None
    import numpy as np

    from ke_ir.numerics import BINARY_FUNCTIONS, UNARY_FUNCTIONS

    table: Any = UNARY_FUNCTIONS if len(args) == 1 else BINARY_FUNCTIONS
    try:
        with np.errstate(all="ignore"):
            got = float(table[fn](*(np.float64(a) for a in args if isinstance(a, float))))
    except TypeError:
        return None
    return None if math.isnan(got) else got
