"""QR by Householder's reflections, as LAPACK's ``geqrf`` takes them: one a step of a recurrence."""

from __future__ import annotations

from dataclasses import dataclass

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.factors import Steps, spread, turned
from ke_ir.importers.aten.terms import negated, select, times, unit
from ke_ir.importers.graph import Index, Value, constant
from ke_ir.importers.registry import Node, aten, whole
from ke_ir.index_maps import earlier, number


@dataclass(frozen=True)
class Reflections:
    """R with the vectors below its diagonal, whose ones are left out, and their factors."""

    both: Value
    factors: Value


def reflections(node: Node, x: Value) -> Reflections:
    """Each takes a column to the diagonal, with the sign that its element there has not."""
    x = node.builder.stored(x, f"{node.name}_in")
    *batch, m, n = x.shape
    steps = Steps(node, "qr", min(whole(m), whole(n)))
    state, below = steps.reserve("state"), steps.reserve("below")
    ends, factors = steps.reserve("end"), steps.reserve("factor")
    vectors, products = steps.reserve("vector"), steps.reserve("product")

    def before(i: Index) -> Expr:
        return earlier(state, i, x[i[1:]])

    def squares(i: Index) -> Expr:
        def part(r: Index) -> Expr:
            e = before([*i, r[0], i[0]])
            return select(Bin(">", r[0], i[0]), Bin("*", e, e), Num(0.0))

        return node.reduce("sum", [m], part)

    rest = steps.define(below, batch, x.dtype, squares)

    def end(i: Index) -> Expr:
        top = before([*i, i[0], i[0]])
        size = Call("sqrt", (Bin("+", Bin("*", top, top), rest[i]),))
        away = select(Bin("<", top, Num(0)), size, negated(size))
        return select(Bin("==", rest[i], Num(0)), top, away)

    new = steps.define(ends, batch, x.dtype, end)

    def factor(i: Index) -> Expr:
        share = Bin("/", Bin("-", new[i], before([*i, i[0], i[0]])), new[i])
        return select(Bin("==", rest[i], Num(0)), Num(0.0), share)

    taken = steps.define(factors, batch, x.dtype, factor)

    def vector(i: Index) -> Expr:
        *lead, r = i
        apart = Bin("-", before([*lead, i[0], i[0]]), new[lead])
        e = select(Bin("==", rest[lead], Num(0)), Num(0.0),
                   Bin("/", before([*lead, r, i[0]]), apart))  # fmt: skip
        below = select(Bin("==", r, i[0]), Num(1.0), Num(0.0))
        return select(Bin(">", r, i[0]), e, below)

    v = steps.define(vectors, (*batch, m), x.dtype, vector)

    def product(i: Index) -> Expr:
        *lead, c = i
        return node.reduce("sum", [m], lambda r: times(
            v[[*lead, r[0]]], before([*lead, r[0], c])))  # fmt: skip

    w = steps.define(products, (*batch, n), x.dtype, product)

    def changed(i: Index) -> Expr:
        *lead, r, c = i
        t = i[0]
        less = Bin("-", before(i), times(taken[lead], v[[*lead, r]], w[[*lead, c]]))
        own = select(Bin("==", r, t), new[lead], v[[*lead, r]])
        here = select(Bin("==", c, t), own, select(Bin(">", c, t), less, before(i)))
        return select(Bin("<", r, t), before(i), here)

    both = steps.last(steps.define(state, x.shape, x.dtype, changed))
    count = Num(steps.count)
    return Reflections(both, taken.view((*batch, count), lambda i: [i[-1], *i[:-1]]))


def reflected(node: Node, given: Reflections, c: Value, transpose: bool) -> Value:
    """Q C, or of Q's transpose: the reflections in the order in which they meet C."""
    both = node.builder.stored(given.both, f"{node.name}_vectors")
    c = node.builder.stored(c, f"{node.name}_other")
    *batch, m, n = c.shape
    count = whole(given.factors.shape[-1])
    steps = Steps(node, "turned", count)
    state, products = steps.reserve("state"), steps.reserve("product")

    def which(t: Expr) -> Expr:
        return t if transpose else Bin("-", Num(count - 1), t)

    def vector(lead: Index, t: Expr, r: Expr) -> Expr:
        k = which(t)
        one = select(Bin("==", r, k), Num(1.0), Num(0.0))
        return select(Bin(">", r, k), both[[*lead, r, k]], one)

    def before(i: Index) -> Expr:
        return earlier(state, i, c[i[1:]])

    def product(i: Index) -> Expr:
        return node.reduce("sum", [m], lambda r: Bin(
            "*", vector(i[1:-1], i[0], r[0]), before([*i[:-1], r[0], i[-1]])))  # fmt: skip

    w = steps.define(products, (*batch, n), c.dtype, product)

    def changed(i: Index) -> Expr:
        *lead, r, column = i
        factor = given.factors[[*lead[1:], which(i[0])]]
        part = times(factor, vector(lead[1:], i[0], r), w[[*lead, column]])
        return Bin("-", before(i), part)

    return steps.last(steps.define(state, c.shape, c.dtype, changed))


def _eye(x: Value, columns: Expr) -> Value:
    """As many rows as x has."""
    shape = (*x.shape[:-1], columns)
    return Value(shape, x.dtype, lambda i: unit(*i[-2:]))


@aten("geqrf.default")
def geqrf(node: Node, x: Value) -> list[Value]:
    found = reflections(node, x)
    return [node.define(lambda i: found.both[i]),
            node.define(lambda i: found.factors[i], 1, "_factors")]  # fmt: skip


@aten("linalg_qr.default")
def qr(node: Node, x: Value, mode: str) -> list[Value]:
    found = reflections(node, x)
    triangle = node.define(lambda i: select(
        Bin(">=", i[-1], i[-2]), found.both[i], Num(0.0)), 1, "_r")  # fmt: skip
    if mode == "r":
        return [constant(0, *node.results[0][::-1]), triangle]
    turn = reflected(node, found, _eye(x, node.shape[-1]), False)
    return [node.define(lambda i: turn[i]), triangle]


@aten("linalg_householder_product.default")
def householder_product(node: Node, x: Value, factors: Value) -> Value:
    if number(factors.shape[-1]) == 0:
        return _eye(x, x.shape[-1])
    turn = reflected(node, Reflections(x, factors), _eye(x, x.shape[-1]), False)
    return node.define(lambda i: turn[i])


@aten("ormqr.default")
def ormqr(node: Node, x: Value, factors: Value, other: Value, left: bool, transpose: bool) -> Value:
    batch = node.shape[:-2]
    given = Reflections(spread(x, batch), spread(factors, batch, 1))
    other = spread(other, batch)
    if left:
        turn = reflected(node, given, other, transpose)
    else:
        turn = turned(reflected(node, given, turned(other), not transpose))
    return node.define(lambda i: turn[i])
