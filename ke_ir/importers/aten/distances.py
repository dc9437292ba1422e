"""Norms of differences, products of three, histograms, bags of embeddings."""

from __future__ import annotations

import math
from typing import Any

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.pointwise import Scalar
from ke_ir.importers.aten.reductions import vector_norm
from ke_ir.importers.aten.scatter import common_shape
from ke_ir.importers.aten.sorting import flattened
from ke_ir.importers.aten.terms import absolute, one_if, select
from ke_ir.importers.aten.views import broadcast
from ke_ir.importers.graph import Index, Value, numeric
from ke_ir.importers.registry import Node, Unsupported, aten
from ke_ir.index_maps import add, number, product
from ke_ir.types import DType


@aten("dist.default")
def dist(node: Node, a: Value, b: Value, p: Scalar) -> Value:
    shape = common_shape([a.shape, b.shape])
    x, y = broadcast(a, shape).at, broadcast(b, shape).at
    apart = Value(tuple(shape), node.dtype, lambda i: Bin("-", x(i), y(i)))
    return vector_norm(node, apart, p, None, False, None)


@aten("_cdist_forward.default")
def cdist(node: Node, a: Value, b: Value, p: Scalar, _: object) -> Value:
    lead = node.shape[:-2]
    a, b = (broadcast(v, (*lead, *v.shape[-2:])) for v in (a, b))
    apart = Value((*node.shape, a.shape[-1]), node.dtype, lambda i: Bin(
        "-", a[[*i[:-3], i[-3], i[-1]]], b[[*i[:-3], i[-2], i[-1]]]))  # fmt: skip
    return vector_norm(node, apart, p, [-1], False, None)


@aten("_cdist_backward.default")
def cdist_backward(node: Node, grad: Value, a: Value, b: Value, p: Scalar, size: Value) -> Value:
    """By the first of the two: what lies at no distance has no direction, and gradient 0."""
    lead = node.shape[:-2]
    a, b = (broadcast(v, (*lead, *v.shape[-2:])) for v in (a, b))

    def element(i: Index) -> Expr:
        def part(j: Index) -> Expr:
            pair = [*i[:-1], j[0]]
            e = Bin("-", a[i], b[[*i[:-2], j[0], i[-1]]])
            return Bin("*", grad[pair], _slope(e, size[pair], p))

        return node.reduce("sum", [b.shape[-2]], part)

    return node.define(element)


def _slope(e: Expr, size: Expr, p: Scalar) -> Expr:
    """The derivative of a p-norm by one of its elements."""
    zero = Num(0.0)
    sign = select(Bin(">", e, zero), Num(1.0), select(Bin("<", e, zero), Num(-1.0), zero))
    if p == 0:
        return zero
    if p == 1:
        return sign
    if math.isinf(p):
        return select(Bin("==", absolute(e), size), sign, zero)
    if p == 2:
        return select(Bin("==", size, zero), zero, Bin("/", e, size))
    share = Call("pow", (Bin("/", absolute(e), size), Num(p - 1.0)))
    none = Bin("or", Bin("==", size, zero), Bin("==", e, zero))
    return select(none, zero, Bin("*", sign, share))


@aten("_pdist_forward.default")
def pdist(node: Node, x: Value, p: Scalar) -> Value:
    """Pairs (i, j), i before j, in order: row i has those before it as its start."""
    n, x = number(x.shape[0]), node.builder.stored(x, f"{node.name}_in")
    if n is None:
        raise Unsupported("pairs of a size that is no number")

    def start(r: Expr) -> Expr:
        return Bin("//", Bin("*", r, Bin("-", Num(2 * n - 1), r)), Num(2))

    row = node.builder.define(f"{node.name}_row", node.shape, DType.I64, lambda i: node.reduce(
        "sum", [Num(n - 1)], lambda r: one_if(
            Bin("<=", start(add(r[0], Num(1))), i[0]))))  # fmt: skip

    def apart(i: Index) -> Expr:
        r = row[[i[0]]]
        other = Bin("+", Bin("-", i[0], start(r)), Bin("+", r, Num(1)))
        return Bin("-", x[[r, i[1]]], x[[other, i[1]]])

    return vector_norm(node, Value((*node.shape, x.shape[1]), node.dtype, apart), p, [-1], False,
                       None)  # fmt: skip


@aten("_trilinear.default")
def trilinear(
    node: Node, a: Value, b: Value, c: Value, da: list[int], db: list[int], dc: list[int],
    over: list[int], _: int,
) -> Value:  # fmt: skip
    """Three factors with dims of size 1 put in, multiplied, and summed over some dims."""
    grown = [_with_ones(v, dims) for v, dims in ((a, da), (b, db), (c, dc))]
    shape = common_shape([v.shape for v in grown])
    ats = [broadcast(v, shape).at for v in grown]

    def element(i: Index) -> Expr:
        def body(inner: Index) -> Expr:
            bound, free = iter(inner), iter(i)
            full = [next(bound) if k in over else next(free) for k in range(len(shape))]
            return Bin("*", Bin("*", ats[0](full), ats[1](full)), ats[2](full))

        return node.reduce("sum", [shape[k] for k in over], body)

    return node.define(element)


def _with_ones(v: Value, dims: list[int]) -> Value:
    rank = v.rank + len(dims)
    left = iter(v.shape)
    shape = [Num(1) if k in dims else next(left) for k in range(rank)]
    return v.view(shape, lambda i: [j for k, j in enumerate(i) if k not in dims])


# Counts


@aten("histc.default")
def histc(node: Node, x: Value, bins: int, low: Scalar, high: Scalar) -> Value:
    """How many elements lie in each of equal bins; without limits, those of the elements."""
    flat = flattened(node, x)
    if low == high:
        ends = [_end(node, flat, kind) for kind in ("min", "max")]
        lo, hi = (_apart(ends[0][[]], ends[1][[]], by) for by in (-1, 1))
    else:
        lo, hi = Num(float(low)), Num(float(high))

    def inside(e: Expr, i: Index) -> Expr:
        share = Bin("/", Bin("-", e, lo), Bin("-", hi, lo))
        number_ = Call("min", (Call("floor", (Bin("*", share, Num(bins)),)), Num(bins - 1)))
        return Bin("and", Bin("and", Bin(">=", e, lo), Bin("<=", e, hi)), Bin("==", number_, i[0]))

    return node.define(lambda i: node.reduce("sum", flat.shape, lambda j: one_if(
        inside(numeric(flat[j], x.dtype), i))))  # fmt: skip


def _end(node: Node, flat: Value, kind: str) -> Value:
    return node.builder.define(f"{node.name}_{kind}", (), node.dtype, lambda _: node.reduce(
        kind, flat.shape, lambda j: flat[j]))  # fmt: skip


def _apart(low: Expr, high: Expr, by: int) -> Expr:
    """One end of a range; equal ends are taken 1 apart on either side."""
    own = low if by < 0 else high
    return select(Bin("==", low, high), Bin("+", own, Num(by)), own)


# Bags of embeddings

SUM, MEAN, MAX = 0, 1, 2


@aten("_embedding_bag_forward_only.default", "_embedding_bag.default")
def embedding_bag(
    node: Node, table: Value, ids: Value, offsets: Value, _scaled: bool, how: int, _sparse: bool,
    weights: Value | None, last: bool, padding: int,
) -> list[Any]:  # fmt: skip
    """Rows of a table, summed over bags: a bag reaches from its offset to the next one."""
    bags, total = node.shape[0], product(ids.shape)
    offsets = node.builder.stored(offsets, f"{node.name}_offsets")

    def over(kind: str, b: Expr, body: Any) -> Expr:
        following = Bin("+", b, Num(1))
        n = number(bags)
        end = select(Bin("<", following, bags), offsets[[Call(
            "min", (following, Num((n or 1) - 1)))]], total)  # fmt: skip
        return node.builder.bounded(kind, offsets[[b]], offsets[[following]] if last else end, body)

    def counts(t: Expr) -> Expr:
        return Bin("!=", ids[[t]], Num(padding))

    def held(t: Expr, e: Expr, none: Expr) -> Expr:
        return e if padding < 0 else select(counts(t), e, none)

    size = node.builder.define(f"{node.name}_size", [bags], DType.I64, lambda i: over(
        "sum", i[0], lambda t: held(t, Num(1), Num(0))))  # fmt: skip

    def element(i: Index) -> Expr:
        def row(t: Expr) -> Expr:
            e = table[[ids[[t]], i[1]]]
            return e if weights is None else Bin("*", e, weights[[t]])

        if how == MAX:
            top = over("max", i[0], lambda t: held(t, row(t), Num(-math.inf)))
            return select(Bin("==", size[[i[0]]], Num(0)), Num(0.0), top)
        found = over("sum", i[0], lambda t: held(t, row(t), Num(0)))
        if how == MEAN:
            found = Bin("/", found, Call("max", (size[[i[0]]], Num(1))))
        return found

    return [node.define(element), None, None, None]
