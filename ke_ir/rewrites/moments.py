"""Recognising sums of squared deviations that ``welford`` carries, for any tile size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ke_ir.axes import AxisId
from ke_ir.expr import Num
from ke_ir.ir import LoopVar
from ke_ir.ops import Binary, Cast, Full, Iota, Reduce, Select
from ke_ir.ops.base import Operand, Stmt
from ke_ir.rewrites.body import Facts
from ke_ir.rewrites.padding import SHAPE_OPS, Padding

Pattern = Any
"""A number, ``"?name"`` for any value, or a tuple: a function or kind and its patterns."""

AT = ("iota",)
BEFORE = ("cast", ("reduce min", AT))
SO_FAR = ("cast", ("min", ("add", ("reduce max", AT), 1), "?size"))
HERE = ("sub", SO_FAR, BEFORE)
MEAN = ("div", "?part", HERE)
APART = ("sub", MEAN, ("div", "?total", ("max", BEFORE, 1.0)))
BETWEEN = ("mul", ("mul", APART, APART), ("div", ("mul", BEFORE, HERE), SO_FAR))
DEVIATION = ("sub", "?term", ("shape", MEAN))
SQUARE = ("mul", DEVIATION, DEVIATION)
COMMUTES = ("add", "mul", "min", "max")


@dataclass(frozen=True)
class Match:
    """Values found in place of names, and the statements on the way."""

    names: dict[str, Operand] = field(default_factory=dict)
    used: tuple[Stmt, ...] = ()

    def bound(self, name: str, x: Operand) -> Match | None:
        if self.names.get(name, x) != x:
            return None
        return Match({**self.names, name: x}, self.used)

    def through(self, s: Stmt) -> Match:
        return Match(self.names, (*self.used, s))


class Moments:
    """``c' = c + deviations of a tile from its mean + what its mean's distance adds``."""

    def __init__(self, f: Facts, var: LoopVar, axis: AxisId) -> None:
        self.f, self.var, self.axis = f, var, axis

    def match(self, c: str, y: Operand) -> Match | None:
        """How ``y`` follows from ``c``: names ``?part`` and ``?total``, statements used."""
        if self.var.lo != Num(0):
            return None
        for square in (("select", "?live", SQUARE, 0), SQUARE):
            whole = ("add", c, ("add", ("reduce sum", square), BETWEEN))
            for m in self._all(y, whole, Match()):
                if self._is_right(m):
                    return m
        return None

    def _is_right(self, m: Match) -> bool:
        size, part = m.names["?size"], self.f.definitions.get(str(m.names["?part"]))
        s = self.f.definitions.get(size) if isinstance(size, str) else None
        value = s.value if isinstance(s, Full) else size
        if (Num(value) if isinstance(value, int | float) else value) != self.var.hi:
            return False
        padding = Padding(self.f, self.var)
        if "?live" in m.names and not padding.is_range_test(m.names["?live"]):
            return False
        if not isinstance(part, Reduce) or part.kind != "sum" or not self._along(part):
            return False
        summed = self.f.definitions.get(str(part.x))
        if isinstance(summed, Select) and padding.is_range_test(summed.c) and summed.y == 0:
            return m.names["?term"] in (summed.x, part.x)
        return m.names["?term"] == part.x

    def _along(self, s: Reduce) -> bool:
        return self.f.axes.of(str(s.x))[s.dim] == self.axis

    def _all(self, x: Operand, pattern: Pattern, m: Match) -> Iterator[Match]:
        """Every way in which ``x`` fits."""
        if not isinstance(pattern, tuple):
            if isinstance(pattern, str) and pattern.startswith("?"):
                if (got := m.bound(pattern, x)) is not None:
                    yield got
            elif x == pattern:
                yield m
            return
        kind, *inner = pattern
        s = self.f.definitions.get(x) if isinstance(x, str) else None
        if kind == "shape":
            while isinstance(s, SHAPE_OPS):
                m, x = m.through(s), s.x
                s = self.f.definitions.get(x) if isinstance(x, str) else None
            yield from self._all(x, inner[0], m)
            return
        match s:
            case Binary(fn=fn, x=a, y=b) if fn == kind:
                for u, v in ((a, b), (b, a)) if fn in COMMUTES and a != b else ((a, b),):
                    for first in self._all(u, inner[0], m.through(s)):
                        yield from self._all(v, inner[1], first)
            case Reduce(kind=of, x=a) if kind == f"reduce {of}" and self._along(s):
                yield from self._all(a, inner[0], m.through(s))
            case Cast(x=a) if kind == "cast":
                yield from self._all(a, inner[0], m.through(s))
            case Select(c=a, x=b, y=e) if kind == "select" and e == inner[2]:
                for first in self._all(a, inner[0], m.through(s)):
                    yield from self._all(b, inner[1], first)
            case Iota(index=index) if kind == "iota" and index == self.var.name:
                yield m.through(s)
