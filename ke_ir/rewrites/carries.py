"""How a loop's carried values combine its tiles, when that is the same for every tile size.

Known forms, with ``R`` a reduction along the loop's axis and ``X`` free of carried values:

- ``c' = op(c, R(X))`` with the operation of the reduction; ``c' = dot(A, B, c)``, or several;
- ``c' = add(c, dot(A, B))``; ``c' = c``;
- the value and the position of the first maximum (or minimum);
- a running maximum ``m`` and sums rescaled by ``exp(m - m')``, as in online softmax;
- a sum and the squared deviations from its mean, as ``welford`` carries them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ke_ir.axes import AxisId
from ke_ir.ir import For, Yield
from ke_ir.ops import Accumulate, Binary, Cmp, Dot, Iota, Reduce, Scan, Select, Unary
from ke_ir.ops.base import Operand, Stmt
from ke_ir.rewrites.base import NoMatch
from ke_ir.rewrites.body import Facts, LoopSite, split_yield
from ke_ir.rewrites.moments import Moments
from ke_ir.rewrites.names import used_names
from ke_ir.rewrites.padding import SHAPE_OPS, origin

COMBINES = {
    "sum": "add", "prod": "mul", "max": "max", "min": "min", "any": "or", "all": "and",
}  # fmt: skip
"""The operation on two values that goes with a reduction."""


@dataclass(frozen=True)
class Carry:
    """A carried value: ``kind`` is a reduction's, or one of the other forms.

    These are ``kept``, ``position``, ``rescaled`` and ``moments``.
    """

    name: str
    init: Operand
    next: Operand
    result: str
    kind: str


class Carries:
    """Matches the carried values of one loop along one axis. ``found`` or ``why`` tell."""

    def __init__(self, f: Facts, site: LoopSite, axis: AxisId) -> None:
        assert isinstance(site.loop, For)
        self.f, self.axis, self.loop = f, axis, site.loop
        self.moments = Moments(f, site.var, axis)
        self.body, yields = split_yield(site.loop.body)
        self.known: set[int] = set()
        self.sensitive = {n for n, _ in site.loop.carries}
        self.sensitive |= {str(op.result) for op in f.axes.combined(axis)}
        self.free: set[str] = set()
        """Operands of recognised forms that must not depend on carried values."""
        self.places: set[str] = set()
        """Results of reductions that pick a place, whose users see to what lies beyond the end."""
        self.running_max: set[str] = set()
        """New values of running maxima by which sums are rescaled."""
        named = zip(site.loop.carries, yields, site.loop.results, strict=True)
        self.carries = [(c, init, y, r) for (c, init), y, r in named]
        self.found: list[Carry] = []
        self.why = ""
        self._match()

    def _match(self) -> None:
        for c, init, y, r in self.carries:
            kind = "kept" if y == c else self._reduction(c, y)
            if kind:
                self.found.append(Carry(c, init, y, r, kind))
        for rule in (self._position, self._rescaled, self._deviations):
            for c, init, y, r in self.carries:
                if all(c != k.name for k in self.found) and (kind := rule(c, y)):
                    self.found.append(Carry(c, init, y, r, kind))
        order = [c for c, _, _, _ in self.carries]
        self.found.sort(key=lambda k: order.index(k.name))
        done = {k.name for k in self.found}
        if missing := [c for c in order if c not in done]:
            self.why = f"how %{missing[0]} is carried is not a known form of reduction"
            return
        self._accumulated()
        self._all_known(self.loop.body)
        if bad := sorted(self.free & self.sensitive):
            self.why = self.why or f"%{bad[0]} depends on what the loop carries"

    def _all_known(self, body: Iterable[Stmt]) -> None:
        """Partial results may only be used by the forms that were recognised."""
        for s in body:
            if isinstance(s, Yield) and s is self.loop.body[-1]:
                continue
            if id(s) not in self.known:
                used = [n for n in used_names(s) if n in self.sensitive]
                if used:
                    self.why = f"%{used[0]}, which depends on the tile size, is used otherwise too"
                    return
            if isinstance(s, For):
                self._all_known(s.body)

    def _definition(self, x: Operand | None) -> Stmt | None:
        """The statement that defines a value, if it stands in the loop's own body."""
        s = self.f.definitions.get(x) if isinstance(x, str) else None
        return s if s is not None and any(s is b for b in self.body) else None

    def _mark(self, s: Stmt) -> None:
        self.known.add(id(s))
        self.sensitive |= {n for n in (getattr(s, "result", None),) if n}

    def _require_free(self, *xs: Operand) -> None:
        self.free |= {x for x in xs if isinstance(x, str)}

    def _combination(self, x: Operand) -> str:
        """The kind of a reduction along the axis; ``sum`` for a ``dot``, or several added up."""
        s = self._definition(x)
        if isinstance(s, Reduce) and self.f.axes.of(str(s.x))[s.dim] == self.axis:
            return s.kind
        return "sum" if self._products(x, None) else ""

    def _products(self, x: Operand, start: Operand | None) -> bool:
        """Whether a value is products along the axis that are added to ``start``."""
        s = self._definition(x)
        dots: list[Dot] = []
        while isinstance(s, Dot) and self.f.axes.of(str(s.a))[-1] == self.axis:
            dots.append(s)
            if s.acc == start:
                for dot in dots:
                    self._mark(dot)
                    self._require_free(dot.a, dot.b)
                return True
            s = self._definition(s.acc)
        return False

    def _reduction(self, c: str, y: Operand) -> str:
        if self._products(y, c):
            return "sum"
        s = self._definition(y)
        if isinstance(s, Binary):
            other = s.y if s.x == c else s.x if s.y == c else None
            kind = "" if other is None or other == c else self._combination(other)
            if kind and COMBINES.get(kind) == s.fn:
                self._mark(s)
                return kind
        return ""

    def _position(self, c: str, y: Operand) -> str:
        """``select (M > m), P, c`` beside ``select (M > m), M, m``: the first extreme's place."""
        s = self._definition(y)
        if not (isinstance(s, Select) and s.y == c):
            return ""
        test = self._definition(s.c)
        if not (isinstance(test, Cmp) and test.pred in ("gt", "lt")):
            return ""
        kind = "max" if test.pred == "gt" else "min"
        best, running = test.x, test.y
        if self._combination(best) != kind:
            return ""
        if s.x == best and running == c:
            self._mark(s)
            self._mark(test)
            return kind
        if not any(running == k.name and k.kind == kind for k in self._extremes(test)):
            return ""
        first = self._definition(s.x)
        if isinstance(first, Reduce) and self._is_first_place(first, best):
            self._mark(s)
            return "position"
        return ""

    def _extremes(self, test: Cmp) -> list[Carry]:
        """Carries updated under ``test``, matched now if they were not before."""
        for c, init, y, r in self.carries:
            s = self._definition(y)
            if isinstance(s, Select) and s.x == test.x and s.y == c == test.y:
                self._mark(s)
                self._mark(test)
                if all(k.name != c for k in self.found):
                    kind = "max" if test.pred == "gt" else "min"
                    self.found.append(Carry(c, init, y, r, kind))
        return self.found

    def _is_first_place(self, first: Reduce, best: Operand) -> bool:
        """``reduce min (select (eq X best), iota, large)`` along the axis."""
        pick = self._definition(first.x)
        if self._combination(first.result or "") != "min" or not isinstance(pick, Select):
            return False
        test, extreme = self._definition(origin(self.f, pick.c)), self._definition(best)
        place = self.f.definitions.get(origin(self.f, pick.x))
        ok = (
            isinstance(test, Cmp)
            and test.pred == "eq"
            and isinstance(extreme, Reduce)
            and test.x == extreme.x
            and origin(self.f, test.y) == best
            and isinstance(place, Iota)
            and self.f.axes.of_loop(place.index) == self.axis
            and pick.y == (1 << (31 if place.type.dtype.bits == 32 else 63)) - 1
        )
        if ok:
            for s in (first, pick, test, *self._between(test.y, best)):  # type: ignore[union-attr]
                assert s is not None
                self._mark(s)
            for s in self._between(pick.c, test.result or ""):  # type: ignore[union-attr]
                self._mark(s)
            self.places.add(str(first.result))
        return ok

    def _between(self, x: Operand, start: Operand) -> list[Stmt]:
        """Changes of shape that lead from ``start`` to ``x``."""
        out: list[Stmt] = []
        while x != start:
            s = self._definition(x)
            if not isinstance(s, SHAPE_OPS):
                return out
            out.append(s)
            x = s.x
        return out

    # Sums rescaled by a running maximum

    def _rescaled(self, c: str, y: Operand) -> str:
        """``add (mul c, fix), R(P)`` or ``dot P, B, (mul c, fix)`` with P scaled by the maximum."""
        s = self._definition(y)
        if isinstance(s, Dot) and s.acc is not None:
            if self.f.axes.of(str(s.a))[-1] != self.axis:
                return ""
            old, terms = s.acc, s.operands()[:2]
        elif isinstance(s, Binary) and s.fn == "add":
            old, new = (s.x, s.y) if self._combination(s.y) else (s.y, s.x)
            part = self._definition(new)
            if self._combination(new) != "sum":
                return ""
            assert isinstance(part, Dot | Reduce)
            terms = part.operands()
            self._mark(part)
        else:
            return ""
        scale = self._fix(c, old)
        if scale is None or not self._one_scaled(terms, scale):
            return ""
        self._mark(s)
        return "rescaled"

    def _fix(self, c: str, x: Operand) -> tuple[str, Operand, str] | None:
        """``mul c, exp(m - m')``: (function, factor, m') where ``m`` is a running maximum."""
        s = self._definition(x)
        if not (isinstance(s, Binary) and s.fn == "mul" and c in (s.x, s.y)):
            return None
        factor = s.y if s.x == c else s.x
        top = origin(self.f, factor)
        found = self._exponential(top)
        if found is None:
            return None
        fn, by, a, b, inner, old = found
        if not any(k.kind == "max" and k.name == a and k.next == b for k in self.found):
            return None
        for t in (s, *inner, *self._shape_changes(old), *self._between(factor, top)):
            self._mark(t)
        self.running_max.add(b)
        return fn, by, b

    def _exponential(self, x: Operand) -> tuple[str, Operand, str, str, list[Stmt], Operand] | None:
        """``exp(a - b)`` or ``exp((a - b) * k)``.

        Gives the function, ``k``, the origins of a and b, the statements but those of a, and a.
        """
        s = self._definition(x)
        if not (isinstance(s, Unary) and s.fn in ("exp", "exp2")):
            return None
        used: list[Stmt] = [s]
        by: Operand = 1.0
        arg = self._definition(s.x)
        if isinstance(arg, Binary) and arg.fn == "mul" and not isinstance(arg.y, str):
            used.append(arg)
            by, arg = arg.y, self._definition(arg.x)
        if not (isinstance(arg, Binary) and arg.fn == "sub"):
            return None
        used += [arg, *self._shape_changes(arg.y)]
        return s.fn, by, origin(self.f, arg.x), origin(self.f, arg.y), used, arg.x

    def _shape_changes(self, x: Operand) -> list[Stmt]:
        return self._between(x, origin(self.f, x))

    def _one_scaled(self, xs: tuple[Operand, ...], scale: tuple[str, Operand, str]) -> bool:
        """True if exactly one factor is scaled; the others are to be free of carried values."""
        plain = [x for x in xs if not self._scaled(x, scale)]
        self._require_free(*plain)
        return len(plain) == len(xs) - 1

    def _scaled(self, x: Operand, scale: tuple[str, Operand, str]) -> bool:
        """True if ``x`` is ``exp(X - m')`` times what is free of carried values."""
        s = self._definition(x)
        if isinstance(s, SHAPE_OPS):
            ok = self._scaled(s.x, scale)
        elif isinstance(s, Select):
            self._require_free(s.c)
            ok = all([p == 0 or self._scaled(p, scale) for p in (s.x, s.y)])
        elif isinstance(s, Binary) and s.fn == "mul":
            ok = self._one_scaled((s.x, s.y), scale)
        elif isinstance(s, Binary) and s.fn == "div":
            ok = self._scaled(s.x, scale)
            self._require_free(s.y)
        else:
            found = self._exponential(x)
            if found is None or (found[0], found[1], found[3]) != scale:
                return False
            for t in found[4]:
                self._mark(t)
            return True
        if ok and s is not None:
            self._mark(s)
        return ok

    def _deviations(self, c: str, y: Operand) -> str:
        """Squared deviations from the mean of a sum that is carried too."""
        m = self.moments.match(c, y)
        if m is None:
            return ""
        part, total = m.names["?part"], m.names["?total"]
        sums = [k for k in self.found if k.kind == "sum" and k.name == total]
        added = self._definition(sums[0].next) if sums else None
        if not isinstance(added, Binary) or {added.x, added.y} != {part, total}:
            return ""
        for s in (s for s in m.used if not isinstance(s, Iota)):
            self._mark(s)
            if isinstance(s, Reduce) and s.kind in ("min", "max"):
                self.places.add(str(s.result))
        self._require_free(m.names["?term"])
        return "moments"

    def _accumulated(self) -> None:
        """``accumulate`` of a partial reduction of its kind counts as carrying it."""
        for s in self.body:
            if isinstance(s, Accumulate):
                kind = {"add": "sum"}.get(s.kind, s.kind)
                if self._combination(s.x) == kind:
                    self._mark(s)


def reduction_of(f: Facts, site: LoopSite, axis: AxisId) -> Carries | NoMatch:
    """The known form of a loop's carried values along an axis, or why there is none."""
    assert isinstance(site.loop, For)
    for op in f.axes.combined(axis):
        if f.places[str(op.result)][:-1] != site.path:
            return NoMatch(f"%{op.result} combines elements of %{site.var.name} outside its loop "
                           "or in a loop within")  # fmt: skip
        if isinstance(op, Scan):
            return NoMatch(f"%{op.result} is a prefix of one tile of %{site.var.name}")
    got = Carries(f, site, axis)
    return NoMatch(got.why) if got.why else got
