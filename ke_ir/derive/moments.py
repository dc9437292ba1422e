"""Sums of squared deviations beside the sum that gives their mean, so that data is read once.

For any m, the sum of (x - m)^2 over a part of n terms whose own mean is p is the sum of (x - p)^2
over that part, and n (p - m)^2 (Chan, Golub and LeVeque, 1983). So the parts need no m: what is one
tile is loaded once for its sum and for its squares, and no large numbers cancel. Many parts are put
together in the same way, as a tree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from ke_ir.derive.groups import COLUMNS
from ke_ir.derive.node import Node, free_indices, hi_of, is_dense
from ke_ir.derive.split import LARGE, chunks, columns_of
from ke_ir.derive.tiles import below, power
from ke_ir.expr import Bin, Call, Expr, Num, Range, Reduce, Ref, Var, children, substitute, walk

Extent = Callable[[Range], int | None]

AGAIN = 1 << 14
"""Elements of parts for each program above which parts are put together first."""
LIGHT = 8
"""Operations that a term may take."""


@dataclass(frozen=True)
class Squares:
    """The node ``node[..] = sum(ranges)((term - mean)^2)``, and the sum of ``term`` beside it."""

    node: Node
    beside: Node
    term: Expr
    mean: Expr


@dataclass(frozen=True)
class Axis:
    """A range of ``size`` terms in parts of ``chunk``, counted by ``index``; without it, whole."""

    index: Range | None
    size: Expr
    chunk: int = 1

    def terms(self) -> Expr:
        """How many terms of its range the part has; the last one may have fewer."""
        if self.index is None:
            return self.size
        if self.chunk == 1 or (isinstance(self.size, Num) and self.size.value % self.chunk == 0):
            return Num(self.chunk)
        start = Bin("*", Var(self.index.name), Num(self.chunk))
        return Call("min", (Num(self.chunk), Bin("-", self.size, start)))


def in_one_pass(nodes: Sequence[Node], extent: Extent, elements: int) -> dict[str, list[Node]]:
    """What to put in place of nodes, by name; ``elements`` are those of the largest tile."""
    out: dict[str, list[Node]] = {}
    for at, n in enumerate(nodes):
        found = squares(n, nodes[:at])
        if found is not None and found.beside.name not in out and _pays(found, extent):
            sums, own = _levels(found, extent, elements)
            if sums:
                out[found.beside.name], out[n.name] = sums, own
    return out


def squares(node: Node, earlier: Sequence[Node]) -> Squares | None:
    """Recognise a sum of squared deviations whose terms an earlier node adds up."""
    e = node.expr
    if not isinstance(e, Reduce) or e.kind != "sum" or not all(map(is_dense, e.ranges)):
        return None
    if node.scan or node.state:
        return None
    if not (isinstance(e.body, Bin) and e.body.op == "*" and e.body.lhs == e.body.rhs):
        return None
    d, summed = e.body.lhs, {r.name for r in e.ranges}
    if not isinstance(d, Bin) or d.op != "-" or summed & set(free_indices(d.rhs)):
        return None
    read = [r for r in walk(d.lhs) if isinstance(r, Ref)]
    if not read or any(r != read[0] for r in read) or _operations(d.lhs) > LIGHT:
        return None
    same = (a for a in earlier if _adds_up(a, node, d.lhs))
    return next((Squares(node, a, d.lhs, d.rhs) for a in same), None)


def _adds_up(a: Node, b: Node, term: Expr) -> bool:
    """True if ``a`` is the sum of the term over the ranges of ``b``, for the same indices."""
    e = a.expr
    if not isinstance(e, Reduce) or e.kind != "sum" or a.scan or a.state:
        return False
    mine, other = (*a.indices, *a.inner), (*b.indices, *b.inner)
    if len(a.inner) != len(b.inner) or [hi_of(r) for r in mine] != [hi_of(r) for r in other]:
        return False
    values: dict[str, Expr] = {x.name: Var(y.name) for x, y in zip(mine, other, strict=True)}
    return all(map(is_dense, a.inner)) and substitute(e.body, values) == term


def _operations(e: Expr) -> int:
    if isinstance(e, Ref | Num | Var):
        return 0
    return 1 + sum(map(_operations, children(e)))


def _pays(s: Squares, extent: Extent) -> bool:
    """Whether what one program sums is too much to be near when it is read again."""
    terms = math.prod(extent(r) or 1 for r in s.node.inner)
    return terms * columns_of(s.node, extent) >= LARGE


def _levels(s: Squares, extent: Extent, elements: int) -> tuple[list[Node], list[Node]]:
    """The nodes of the sum and of the squares: of parts, of parts of parts, and of the whole."""
    sums, own = _Level(s.beside, _axes(s.beside)), _Level(s.node, _axes(s.node))
    made_sums: list[Node] = []
    made_own: list[Node] = []
    last = power(min(COLUMNS, extent(s.node.indices[-1]) or 1)) if s.node.indices else 1
    across, again = power(columns_of(s.node, extent)), True
    while again:
        room = max(2, elements // across)
        more_sums, more_own = sums.coarser(extent, room), own.coarser(extent, room)
        if not more_own.parts:
            return [], []
        total = more_sums.node_of(sums.element() if made_sums else _body(s.beside))
        mean = more_own.mean(total.name)
        body = own.deviations(sums.name, mean) if made_own else _square(Bin("-", s.term, mean))
        made_sums.append(total)
        made_own.append(replace(more_own.node_of(body), beside=total.name))
        sums, own, across = more_sums, more_own, last
        again = math.prod(extent(r) or 1 for r in own.parts) * last > AGAIN
    whole = Reduce("sum", sums.parts, sums.element())
    made_sums.append(replace(s.beside, expr=whole))
    whole = Reduce("sum", own.parts, own.deviations(sums.name, s.mean))
    made_own.append(replace(s.node, expr=whole))
    return made_sums, made_own


def _axes(node: Node) -> tuple[Axis, ...]:
    return tuple(Axis(r, hi_of(r)) for r in node.inner)


def _body(node: Node) -> Expr:
    assert isinstance(node.expr, Reduce)
    return node.expr.body


def _square(e: Expr) -> Expr:
    return Bin("*", e, e)


@dataclass(frozen=True)
class _Level:
    """The parts of a node's terms, each of the ranges ``own`` over the parts one level below."""

    node: Node
    axes: tuple[Axis, ...]
    own: tuple[Range, ...] = ()
    depth: int = 0

    @property
    def name(self) -> str:
        if not self.depth:
            return self.node.name
        return f"{self.node.name}_parts{self.depth if self.depth > 1 else ''}"

    @property
    def parts(self) -> tuple[Range, ...]:
        return tuple(a.index for a in self.axes if a.index is not None)

    def coarser(self, extent: Extent, room: int) -> _Level:
        """Up to ``room`` of the parts together: those of inner ranges first."""
        axes: list[Axis] = []
        own: list[Range] = []
        for a in reversed(self.axes):
            size = 1 if a.index is None else extent(a.index) or 1
            chunk = min(below(room), power(size))
            fixed = a.index is not None and isinstance(a.index.hi, Num)
            if a.index is None or room < 2 or (chunk == 1 and not fixed):
                axes.append(a)
                continue
            if size <= chunk and fixed:
                axes.append(Axis(None, a.size))
                own.append(a.index)
            else:
                part, inner = chunks(a.index, chunk)
                axes.append(Axis(part, a.size, a.chunk * chunk))
                own.append(inner)
            room //= chunk
        return _Level(self.node, tuple(axes[::-1]), tuple(own[::-1]), self.depth + 1)

    def node_of(self, body: Expr) -> Node:
        """The parts, given what each adds up."""
        indices = (*self.parts, *self.node.indices)
        return Node(self.name, indices, Reduce("sum", self.own, body), origin=self.node.origin)

    def element(self, name: str = "") -> Ref:
        """This level's value (or that of another node, of the same parts) at the parts' indices."""
        places = (*self.parts, *self.node.indices)
        return Ref(name or self.name, tuple(Var(r.name) for r in places))

    def terms(self) -> Expr:
        """How many terms a part has."""
        known, others = 1, []
        for t in (a.terms() for a in self.axes):
            if isinstance(t, Num):
                known *= int(t.value)
            else:
                others.append(t)
        first: list[Expr] = [Num(known)] if known > 1 or not others else []
        return reduce(lambda x, y: Bin("*", x, y), (*first, *others))

    def mean(self, sums: str) -> Expr:
        """The part's mean."""
        return Bin("/", self.element(sums), self.terms())

    def deviations(self, sums: str, mean: Expr) -> Expr:
        """The squares of a part's deviations from ``mean``."""
        apart = _square(Bin("-", self.mean(sums), mean))
        return Bin("+", self.element(), Bin("*", self.terms(), apart))
