"""Bounds of integer expressions, symbolic in the dims whose size is known at run time only.

A bound is a polynomial over those dims, so that ``%m // (OH * OW)`` with ``%m`` below
``N * OH * OW`` is known to be below ``N`` whatever ``N`` is. What cannot be shown is unknown
(None), never guessed: a mask is left out only when the bound is proved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ke_ir.expr import Bin, Call, Dim, Expr, Neg, Num, Var

Monomial = tuple[str, ...]


@dataclass(frozen=True)
class Poly:
    """An integer polynomial: coefficient by monomial (a sorted tuple of dim names)."""

    terms: Mapping[Monomial, int]

    @staticmethod
    def const(value: int) -> Poly:
        return Poly({(): value} if value else {})

    @staticmethod
    def symbol(name: str) -> Poly:
        return Poly({(name,): 1})

    @property
    def value(self) -> int | None:
        """The number, when it is one."""
        if not self.terms:
            return 0
        return self.terms.get(()) if len(self.terms) == 1 and () in self.terms else None

    def __add__(self, other: Poly) -> Poly:
        out = dict(self.terms)
        for m, c in other.terms.items():
            out[m] = out.get(m, 0) + c
        return Poly({m: c for m, c in out.items() if c})

    def __neg__(self) -> Poly:
        return Poly({m: -c for m, c in self.terms.items()})

    def __sub__(self, other: Poly) -> Poly:
        return self + -other

    def __mul__(self, other: Poly) -> Poly:
        out: dict[Monomial, int] = {}
        for m, c in self.terms.items():
            for n, d in other.terms.items():
                key = tuple(sorted((*m, *n)))
                out[key] = out.get(key, 0) + c * d
        return Poly({m: c for m, c in out.items() if c})

    def plus(self, number: int) -> Poly:
        return self + Poly.const(number)


@dataclass(frozen=True)
class Interval:
    """Smallest and largest value, both included; None is unknown."""

    lo: Poly | None
    hi: Poly | None


UNKNOWN = Interval(None, None)


class Bounds:
    """Interval arithmetic, given the sizes of the static dims and the ranges of the others."""

    def __init__(
        self,
        static: Mapping[str, int],
        ranges: Mapping[str, tuple[int, int]],
        derived: Mapping[str, Expr],
    ) -> None:
        self.static, self.ranges, self.derived = static, ranges, derived

    # -- polynomials ---------------------------------------------------------------------------
    def _extreme(self, p: Poly, largest: bool) -> int:
        total = 0
        for m, c in p.terms.items():
            end = 1 if (c > 0) == largest else 0
            total += c * math.prod(self.ranges[name][end] for name in m)
        return total

    def smallest(self, p: Poly) -> int:
        """A lower bound over all sizes of the run-time dims."""
        return self._extreme(p, False)

    def largest(self, p: Poly) -> int:
        """An upper bound over all sizes of the run-time dims."""
        return self._extreme(p, True)

    def at_most(self, a: Poly | None, b: Poly | None) -> bool:
        """Whether ``a <= b`` is proved."""
        return a is not None and b is not None and self.smallest(b - a) >= 0

    def dim(self, name: str) -> Poly:
        if name in self.static:
            return Poly.const(self.static[name])
        if name in self.derived:
            got = self.interval(self.derived[name], {})
            if got.lo is not None and got.lo == got.hi:
                return got.lo
        return Poly.symbol(name)

    def exact(self, e: Expr) -> Poly | None:
        """The value of an expression over dims, when it is a polynomial."""
        got = self.interval(e, {})
        return got.lo if got.lo is not None and got.lo == got.hi else None

    # -- intervals -----------------------------------------------------------------------------
    def interval(self, e: Expr, env: Mapping[str, Interval]) -> Interval:
        """Bounds of an expression; ``env`` has those of loop variables and SSA values.

        ``begin(%i)`` and ``end(%i)`` are looked up as ``begin(i)`` and ``end(i)``.
        """
        match e:
            case Num(int() as value):
                p = Poly.const(value)
                return Interval(p, p)
            case Dim(name):
                p = self.dim(name)
                return Interval(p, p)
            case Var(name):
                return env.get(name, UNKNOWN)
            case Neg(arg):
                return self.negate(self.interval(arg, env))
            case Call(("begin" | "end") as fn, (Var(name),)):
                return env.get(f"{fn}({name})", UNKNOWN)
            case Call("min", (a, b)):
                return self.minimum(self.interval(a, env), self.interval(b, env))
            case Call("max", (a, b)):
                x, y = (self.negate(self.interval(v, env)) for v in (a, b))
                return self.negate(self.minimum(x, y))
            case Bin(op, a, b) if op in _ARITHMETIC:
                return _ARITHMETIC[op](self, self.interval(a, env), self.interval(b, env))
        return UNKNOWN

    def negate(self, a: Interval) -> Interval:
        return Interval(_map(a.hi, lambda p: -p), _map(a.lo, lambda p: -p))

    def add(self, a: Interval, b: Interval) -> Interval:
        return Interval(_both(a.lo, b.lo), _both(a.hi, b.hi))

    def subtract(self, a: Interval, b: Interval) -> Interval:
        return self.add(a, self.negate(b))

    def multiply(self, a: Interval, b: Interval) -> Interval:
        if a.lo is not None and a.lo == a.hi:
            a, b = b, a
        if b.lo is not None and b.lo == b.hi:
            factor = b.lo
            if self.smallest(factor) >= 0:
                return Interval(_map(a.lo, factor.__mul__), _map(a.hi, factor.__mul__))
            if self.largest(factor) <= 0:
                return Interval(_map(a.hi, factor.__mul__), _map(a.lo, factor.__mul__))
        ends = [self._numeric(x) for x in (a, b)]
        if ends[0] is None or ends[1] is None:
            return UNKNOWN
        products = [x * y for x in ends[0] for y in ends[1]]
        return Interval(Poly.const(min(products)), Poly.const(max(products)))

    def floordiv(self, a: Interval, b: Interval) -> Interval:
        if b.lo is None or b.lo != b.hi or self.smallest(b.lo) <= 0:
            return UNKNOWN
        divisor = b.lo
        return Interval(
            _map(a.lo, lambda p: self._divide(p, divisor, False)),
            _map(a.hi, lambda p: self._divide(p, divisor, True)),
        )

    def mod(self, a: Interval, b: Interval) -> Interval:
        if b.lo is None or b.lo != b.hi or self.smallest(b.lo) <= 0:
            return UNKNOWN
        last = b.lo.plus(-1)
        if self.at_most(Poly.const(0), a.lo) and self.at_most(a.hi, last):
            return a
        return Interval(Poly.const(0), last)

    def minimum(self, a: Interval, b: Interval) -> Interval:
        lo = None
        if a.lo is not None and b.lo is not None:
            lo = self._smaller(a.lo, b.lo) or Poly.const(
                min(self.smallest(a.lo), self.smallest(b.lo))
            )
        if a.hi is None or b.hi is None:
            return Interval(lo, a.hi or b.hi)
        return Interval(lo, self._smaller(a.hi, b.hi) or a.hi)

    def _smaller(self, p: Poly, q: Poly) -> Poly | None:
        return p if self.at_most(p, q) else q if self.at_most(q, p) else None

    def _numeric(self, a: Interval) -> tuple[int, int] | None:
        if a.lo is None or a.hi is None:
            return None
        return self.smallest(a.lo), self.largest(a.hi)

    def _divide(self, p: Poly, divisor: Poly, upper: bool) -> Poly | None:
        """A bound of ``floor(p / divisor)``, exact where every symbolic term divides."""
        (monomial, factor), *more = divisor.terms.items()
        quotient: dict[Monomial, int] = {}
        rest = 0
        for m, c in p.terms.items():
            left = _without(m, monomial)
            if not more and left is not None and c % factor == 0:
                quotient[left] = c // factor
            elif m == ():
                rest = c
            else:
                return self._divide_numbers(p, divisor, upper)
        least = self.smallest(divisor)
        if -least <= rest < least:
            return Poly(quotient).plus(-1 if rest < 0 else 0)
        if monomial == ():
            return Poly(quotient).plus(rest // factor)
        return self._divide_numbers(p, divisor, upper)

    def _divide_numbers(self, p: Poly, divisor: Poly, upper: bool) -> Poly:
        value = self._extreme(p, upper)
        ends = (self.smallest(divisor), self.largest(divisor))
        quotients = [value // d for d in ends]
        return Poly.const(max(quotients) if upper else min(quotients))

    # -- divisibility --------------------------------------------------------------------------
    def multiple(self, e: Expr, env: Mapping[str, int]) -> int:
        """A number that divides every value of the expression (0: the value is always 0).

        ``env`` has the known divisors of variables and of ``begin(i)``/``end(i)``; default 1.
        """
        match e:
            case Num(int() as value):
                return abs(value)
            case Dim(name):
                return math.gcd(*self.dim(name).terms.values())
            case Var(name):
                return env.get(name, 1)
            case Neg(arg):
                return self.multiple(arg, env)
            case Call(("begin" | "end") as fn, (Var(name),)):
                return env.get(f"{fn}({name})", 1)
            case Call("min" | "max", (a, b)) | Bin("+" | "-", a, b):
                return math.gcd(self.multiple(a, env), self.multiple(b, env))
            case Bin("*", a, b):
                return self.multiple(a, env) * self.multiple(b, env)
            case Bin("//", a, b):
                divisor = self.exact(b)
                m = self.multiple(a, env)
                if divisor is not None and divisor.value and m % divisor.value == 0:
                    return m // divisor.value
        return 1


def _map(p: Poly | None, fn: Callable[[Poly], Poly | None]) -> Poly | None:
    return None if p is None else fn(p)


def _both(p: Poly | None, q: Poly | None) -> Poly | None:
    return None if p is None or q is None else p + q


def _without(m: Monomial, factor: Monomial) -> Monomial | None:
    """The monomial divided by another, or None when it does not divide."""
    left = list(m)
    for name in factor:
        if name not in left:
            return None
        left.remove(name)
    return tuple(left)


_ARITHMETIC: dict[str, Callable[[Bounds, Interval, Interval], Interval]] = {
    "+": Bounds.add, "-": Bounds.subtract, "*": Bounds.multiply, "//": Bounds.floordiv,
    "%": Bounds.mod,
}  # fmt: skip
