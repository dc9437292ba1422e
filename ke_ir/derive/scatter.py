"""Sums of what data say belongs to each element: ``sum[l](select(id[l] == j, x[l, k], 0))``.

Said as a sum, each of the J elements looks at all L terms. As a scatter each term is added to the
one element that it belongs to, atomically: L writes rather than J times L comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from ke_ir.derive.node import Node, Scatter, free_indices, hi_of, is_dense
from ke_ir.derive.padding import literal
from ke_ir.derive.reductions import COMBINE
from ke_ir.expr import Bin, Call, Expr, Num, Range, Reduce, Ref, Var, conjuncts, walk

Extent = Callable[[Range], int | None]

KINDS = ("sum", "max")
"""Reductions of which a scatter is made."""
LARGE = 1 << 20
"""Comparisons below which one kernel that makes them is as good as two."""
SPREAD = 1 << 12
"""Elements from which atomic writes rarely meet: below, they wait for one another."""
I32_LEAST = -(1 << 31)
PLACES = 64
"""Elements that a term may belong to, below which looking at each costs no more than a write."""


@dataclass(frozen=True)
class Keyed:
    """``select(all of tests and places are as said, value, other)``: where a term belongs.

    ``places`` gives the indices of the node that the data determine, each with its expression.
    """

    places: dict[str, Expr]
    tests: tuple[Expr, ...]
    value: Expr
    other: Expr


def as_scatter(node: Node, extent: Extent, is_float: bool, direct: bool) -> list[Node] | None:
    """The node as a scatter, and what follows from it, or None where it is none or does not pay.

    ``direct``: the tensor called ``node.name`` may be what is accumulated into.
    """
    e = node.expr
    if not isinstance(e, Reduce) or e.kind not in KINDS or node.scan or node.state:
        return None
    if not all(map(is_dense, (*node.indices, *e.ranges))):
        return None
    found = _keyed(node, e)
    if found is None or (is_float and e.kind != "sum") or not _pays(node, found, extent):
        return None
    neutral = _is_neutral(found.other, e.kind)
    if not neutral and not _is_least(found, e.kind):
        return None
    value = found.value
    for t in found.tests:
        value = Call("select", (t, value, found.other))
    at = next(i for i, r in enumerate(node.indices) if r.name in found.places)
    rest = [r for r in node.indices if r.name not in found.places]
    before = sum(1 for r in node.indices[:at] if r.name not in found.places)
    places = tuple(found.places.get(r.name, Var(r.name)) for r in node.indices)
    shape = tuple(map(hi_of, node.indices))
    scatter = Scatter(COMBINE[e.kind], places, shape, tuple(r.name for r in e.ranges))
    made = Node(
        node.name, (*rest[:before], *e.ranges, *rest[before:]), value, origin=node.origin,
        scatter=scatter,
    )  # fmt: skip
    if neutral and direct:
        return [made]
    made = replace(made, name=f"{node.name}_hits")
    own: Expr = Ref(made.name, tuple(Var(r.name) for r in node.indices))
    if not neutral:
        own = Call(e.kind, (own, found.other))
    return [made, replace(node, expr=own)]


def _keyed(node: Node, e: Reduce) -> Keyed | None:
    """What a reduction's body asks of data for each element of the node."""
    body = e.body
    if not (isinstance(body, Call) and body.fn == "select"):
        return None
    condition, value, other = body.args
    outer = {r.name: r for r in node.indices}
    places: dict[str, Expr] = {}
    tests: list[Expr] = []
    for c in conjuncts(condition):
        found = _place(c, outer)
        if found is None or found.keys() & places.keys():
            tests.append(c)
        else:
            places |= found
    rest = (value, *tests, *places.values(), *(hi_of(r) for r in e.ranges))
    if not places or any(places.keys() & set(free_indices(x)) for x in rest):
        return None
    if free_indices(other) or any(isinstance(n, Ref) for n in walk(other)):
        return None
    inner = any(isinstance(n, Reduce) for x in rest for n in walk(x))
    return None if inner else Keyed(places, tuple(tests), value, other)


def _place(c: Expr, outer: dict[str, Range]) -> dict[str, Expr] | None:
    """The indices that ``c`` sets equal to data, with what they are then."""
    if not (isinstance(c, Bin) and c.op == "=="):
        return None
    for index, data in ((c.lhs, c.rhs), (c.rhs, c.lhs)):
        if any(isinstance(n, Ref) for n in walk(data)) and (found := _digits(index, data, outer)):
            return found
    return None


def _digits(index: Expr, data: Expr, outer: dict[str, Range]) -> dict[str, Expr] | None:
    """Each index of a row-major place, of the data that it equals.

    What lies outside all places is left outside of the first index.
    """
    match index:
        case Bin("+", rest, Num() as shift):
            index, data = rest, Bin("-", data, shift)
        case Bin("-", rest, Num() as shift):
            index, data = rest, Bin("+", data, shift)
    strides = _strides(index)
    if not strides or not strides.keys() <= outer.keys():
        return None
    order = sorted(strides, key=lambda n: -strides[n])
    expected = 1
    out: dict[str, Expr] = {}
    for name in reversed(order):
        if strides[name] != expected:
            return None
        digit = data if expected == 1 else Bin("//", data, Num(expected))
        if name != order[0]:
            size = hi_of(outer[name])
            if not isinstance(size, Num):
                return None
            digit = Bin("%", digit, size)
            expected *= int(size.value)
        out[name] = digit
    return out


def _strides(e: Expr) -> dict[str, int] | None:
    """What each index counts for in a sum of multiples of indices; None for other forms."""
    match e:
        case Var(name):
            return {name: 1}
        case Bin("*", x, Num(int() as n)) | Bin("*", Num(int() as n), x) if n > 0:
            found = _strides(x)
            return None if found is None else {v: k * n for v, k in found.items()}
        case Bin("+", x, y):
            a, b = _strides(x), _strides(y)
            return None if a is None or b is None or a.keys() & b.keys() else a | b
    return None


def _pays(node: Node, found: Keyed, extent: Extent) -> bool:
    """Whether writes are fewer than comparisons by enough, and rarely meet at one element."""
    sizes = {r.name: extent(r) or 1 for r in (*node.indices, *node.inner)}
    elements = math.prod(sizes[r.name] for r in node.indices)
    places = math.prod(sizes[name] for name in found.places)
    terms = math.prod(sizes[r.name] for r in node.inner)
    return places >= PLACES and elements >= SPREAD and elements * terms >= LARGE


def _is_neutral(other: Expr, kind: str) -> bool:
    """Whether what belongs elsewhere adds nothing, whatever the dtype."""
    return kind == "sum" and literal(other) == 0


def _is_least(found: Keyed, kind: str) -> bool:
    """Whether every term is at least what is taken where it belongs elsewhere.

    So it is for the last place of those that belong to an element, -1 if there is none.
    """
    other = literal(found.other)
    below = isinstance(other, int) and I32_LEAST <= other <= 0
    return kind == "max" and below and isinstance(found.value, Var)
