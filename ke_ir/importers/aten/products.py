"""Matrix products, convolutions, attention."""

from __future__ import annotations

import math
from collections.abc import Callable

from ke_ir.expr import Bin, Expr, Num
from ke_ir.importers.aten.pointwise import Scalar, scaled
from ke_ir.importers.aten.reductions import softmax
from ke_ir.importers.aten.terms import select
from ke_ir.importers.aten.views import broadcast
from ke_ir.importers.graph import Index, Value
from ke_ir.importers.registry import Node, Unsupported, aten, whole
from ke_ir.index_maps import floordiv, number


def product_sum(node: Node, a: Value, b: Value) -> Callable[[Index], Expr]:
    """Elements of the product of [.., m, k] and [.., k, n], leading dims as they stand."""

    def at(index: Index) -> Expr:
        *lead, m, n = index
        return node.reduce("sum", [a.shape[-1]], lambda k: Bin(
            "*", a[[*lead, m, k[0]]], b[[*lead, k[0], n]]))  # fmt: skip

    return at


@aten("mm.default", "bmm.default")
def mm(node: Node, a: Value, b: Value) -> Value:
    return node.define(product_sum(node, a, b))


@aten("matmul.default")
def matmul(node: Node, a: Value, b: Value) -> Value:
    left = a if a.rank > 1 else a.view((Num(1), *a.shape), lambda i: i[1:])
    right = b if b.rank > 1 else b.view((*b.shape, Num(1)), lambda i: i[:1])
    shape = list(node.shape)
    if a.rank == 1:
        shape.insert(len(shape) - (b.rank > 1), Num(1))
    if b.rank == 1:
        shape.append(Num(1))
    lead = shape[:-2]
    both = (
        broadcast(left, (*lead, *left.shape[-2:])),
        broadcast(right, (*lead, *right.shape[-2:])),
    )
    at = product_sum(node, *both)

    def element(index: Index) -> Expr:
        own = list(index)
        if a.rank == 1:
            own.insert(len(own) - (b.rank > 1), Num(0))
        if b.rank == 1:
            own.append(Num(0))
        return at(own)

    return node.define(element)


@aten("mv.default")
def mv(node: Node, a: Value, b: Value) -> Value:
    return matmul(node, a, b)


@aten("dot.default", "vdot.default")
def dot(node: Node, a: Value, b: Value) -> Value:
    return node.define(lambda _: node.reduce("sum", a.shape, lambda k: Bin("*", a[k], b[k])))


@aten("linear.default")
def linear(node: Node, x: Value, w: Value, bias: Value | None) -> Value:
    def element(index: Index) -> Expr:
        *lead, n = index if w.rank == 2 else (*index, Num(0))
        e = node.reduce("sum", [x.shape[-1]], lambda k: Bin(
            "*", x[[*lead, k[0]]], w[[n, k[0]] if w.rank == 2 else [k[0]]]))  # fmt: skip
        return e if bias is None else Bin("+", e, bias[[n] if bias.rank else []])

    return node.define(element)


def _plus(
    node: Node, c: Value, total: Callable[[Index], Expr], beta: Scalar, alpha: Scalar
) -> Value:
    base = broadcast(c, node.shape).at
    if not node.dtype.is_float:
        beta, alpha = int(beta), int(alpha)
    if beta == 0:
        return node.define(lambda i: scaled(total(i), alpha))
    return node.define(lambda i: Bin("+", scaled(total(i), alpha), scaled(base(i), beta)))


@aten("addmm.default", "baddbmm.default")
def addmm(node: Node, c: Value, a: Value, b: Value, beta: Scalar, alpha: Scalar) -> Value:
    return _plus(node, c, product_sum(node, a, b), beta, alpha)


@aten("addbmm.default")
def addbmm(node: Node, c: Value, a: Value, b: Value, beta: Scalar, alpha: Scalar) -> Value:
    def total(i: Index) -> Expr:
        return node.reduce("sum", [a.shape[0], a.shape[2]], lambda k: Bin(
            "*", a[[k[0], i[0], k[1]]], b[[*k, i[1]]]))  # fmt: skip

    return _plus(node, c, total, beta, alpha)


@aten("addmv.default")
def addmv(node: Node, c: Value, a: Value, b: Value, beta: Scalar, alpha: Scalar) -> Value:
    def total(i: Index) -> Expr:
        return node.reduce("sum", b.shape, lambda k: Bin("*", a[[i[0], k[0]]], b[k]))

    return _plus(node, c, total, beta, alpha)


# Attention


@aten("scaled_dot_product_attention.default")
def attention(
    node: Node, q: Value, k: Value, v: Value, mask: Value | None, dropout: float, causal: bool,
    scale: float | None, grouped: bool,
) -> Value:  # fmt: skip
    if dropout:
        raise Unsupported("attention with dropout draws random numbers")
    b = node.builder
    lead = node.shape[:-2]
    if grouped and number(q.shape[-3]) != number(k.shape[-3]):
        share = whole(q.shape[-3]) // whole(k.shape[-3])
        k, v = (_repeated(node, t, share) for t in (k, v))
    q, k, v = (broadcast(t, (*lead, *t.shape[-2:])) for t in (q, k, v))
    factor = scale if scale is not None else 1 / math.sqrt(whole(q.shape[-1]))
    shape = (*lead, q.shape[-2], k.shape[-2])
    allowed = None if mask is None else broadcast(mask, shape).at

    def score(index: Index) -> Expr:
        *batch, i, j = index
        e: Expr = Bin("*", b.reduce("sum", [q.shape[-1]], lambda d: Bin(
            "*", q[[*batch, i, d[0]]], k[[*batch, j, d[0]]])), Num(factor))  # fmt: skip
        if allowed is not None and mask is not None:
            m = allowed(index)
            e = select(m, e, Num(-math.inf)) if mask.dtype.is_bool else Bin("+", e, m)
        return select(Bin("<=", j, i), e, Num(-math.inf)) if causal else e

    scores = b.define(f"{node.name}_scores", shape, node.dtype, score)
    weights = softmax(Node(f"{node.name}_weights", b, ((shape, node.dtype),)), scores, -1)
    return node.define(product_sum(node, weights, v))


def _repeated(node: Node, x: Value, times: int) -> Value:
    """Each head several times over, as grouped queries want it."""
    heads = Num(whole(x.shape[-3]) * times)
    return x.view((*x.shape[:-3], heads, *x.shape[-2:]), lambda i: [
        *i[:-3], floordiv(i[-3], Num(times), node.builder.known), *i[-2:]
    ])  # fmt: skip
