"""Interval analysis of integer expressions: what values a coordinate can take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ke_ir.expr import MAX_INT, Bin, Call, Dim, Expr, Neg, Num, Var


@dataclass(frozen=True)
class Interval:
    """Integers from ``lo`` to ``hi``, both included; None is unbounded on that side."""

    lo: int | None
    hi: int | None

    def inside(self, lo: int, hi: int) -> bool:
        """True if every value v has lo <= v < hi."""
        return self.lo is not None and self.hi is not None and self.lo >= lo and self.hi < hi

    def outside(self, lo: int, hi: int) -> bool:
        """True if no value v has lo <= v < hi."""
        return (self.hi is not None and self.hi < lo) or (self.lo is not None and self.lo >= hi)


ANY = Interval(None, None)


def interval(e: Expr, dims: Mapping[str, int], values: Mapping[str, Interval]) -> Interval:
    """Values that ``e`` can take with dims bound and variables within ``values``.

    Sound, not tight: ``x - x`` gives a range around 0. Unknown names give ANY.
    """
    match e:
        case Num(int() as v):
            return Interval(v, v)
        case Dim(name):
            return Interval(dims[name], dims[name]) if name in dims else ANY
        case Var(name):
            return values.get(name, ANY)
        case Neg(arg):
            a = interval(arg, dims, values)
            return Interval(_neg(a.hi), _neg(a.lo))
        case Call("min" | "max" as fn, (x, y)):
            return _extreme(fn, interval(x, dims, values), interval(y, dims, values))
        case Bin(op, lhs, rhs):
            got = _binary(op, interval(lhs, dims, values), interval(rhs, dims, values))
            return Interval(_bounded(got.lo), _bounded(got.hi))
    return ANY


def _bounded(x: int | None) -> int | None:
    """What no machine integer reaches is as good as unbounded."""
    return None if x is None or abs(x) > MAX_INT else x


def _neg(x: int | None) -> int | None:
    return None if x is None else -x


def _add(x: int | None, y: int | None) -> int | None:
    return None if x is None or y is None else x + y


def _extreme(fn: str, a: Interval, b: Interval) -> Interval:
    if fn == "min":
        his = [h for h in (a.hi, b.hi) if h is not None]
        lo = None if a.lo is None or b.lo is None else min(a.lo, b.lo)
        return Interval(lo, min(his, default=None))
    los = [x for x in (a.lo, b.lo) if x is not None]
    hi = None if a.hi is None or b.hi is None else max(a.hi, b.hi)
    return Interval(max(los, default=None), hi)


def _binary(op: str, a: Interval, b: Interval) -> Interval:
    if op == "+":
        return Interval(_add(a.lo, b.lo), _add(a.hi, b.hi))
    if op == "-":
        return Interval(_add(a.lo, _neg(b.hi)), _add(a.hi, _neg(b.lo)))
    if op == "*":
        return _product(a, b)
    if b.lo is None or b.lo != b.hi or b.lo <= 0:
        return ANY
    d = b.lo
    if op == "//":
        return Interval(None if a.lo is None else a.lo // d, None if a.hi is None else a.hi // d)
    if op == "%":
        if a.lo is not None and a.hi is not None and a.lo // d == a.hi // d:
            return Interval(a.lo % d, a.hi % d)
        return Interval(0, d - 1)
    return ANY


def _product(a: Interval, b: Interval) -> Interval:
    if a.lo is not None and a.hi is not None and b.lo is not None and b.hi is not None:
        corners = [x * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
        return Interval(min(corners), max(corners))
    if a.lo is not None and a.lo >= 0 and b.lo is not None and b.lo >= 0:
        return Interval(a.lo * b.lo, None)
    return ANY
