"""Matrix products, convolutions, attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.pointwise import Scalar, aligned, scaled
from ke_ir.importers.aten.reductions import softmax
from ke_ir.importers.aten.views import broadcast, outside
from ke_ir.importers.graph import Index, Value
from ke_ir.importers.index import add, floordiv, mul, number, sub
from ke_ir.importers.registry import Node, Unsupported, aten


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
    base = aligned(c, node.shape)
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


# Convolutions


@aten("convolution.default")
def convolution(
    node: Node, x: Value, w: Value, bias: Value | None, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], transposed: bool,
    output_padding: Sequence[int], groups: int,
) -> Value:  # fmt: skip
    rank = w.rank - 2
    stride, padding, dilation = (list(v) * (rank // len(v)) for v in (stride, padding, dilation))
    if x.rank == w.rank - 1:
        raise Unsupported("a convolution without a batch dim")
    make = _transposed if transposed else _forward
    total = make(node, x, w, stride, padding, dilation, groups)
    if bias is None:
        return node.define(total)
    return node.define(lambda i: Bin("+", total(i), bias[[i[1]]]))


def _forward(
    node: Node, x: Value, w: Value, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], groups: int,
) -> Callable[[Index], Expr]:  # fmt: skip
    per_in, per_out = w.shape[1], Num(_whole(w.shape[0]) // groups)
    source = outside(node, x, 0) if any(padding) else node.builder.stored(x, f"{node.name}_in")

    def at(index: Index) -> Expr:
        n, o, *place = index
        window = [number(s) != 1 for s in w.shape[2:]]
        sizes = [s for s, wide in zip(w.shape[2:], window, strict=True) if wide]
        deep = number(per_in) != 1
        group = Num(0) if groups == 1 else floordiv(o, per_out, node.builder.known)

        def body(inner: Index) -> Expr:
            left = iter(inner)
            c = next(left) if deep else Num(0)
            taps = [next(left) if wide else Num(0) for wide in window]
            where = [
                add(add(mul(i, Num(s)), mul(p, Num(d))), Num(-pad))
                for i, p, s, d, pad in zip(place, taps, stride, dilation, padding, strict=True)
            ]
            channel = add(mul(group, per_in), c)
            return Bin("*", source[[n, channel, *where]], w[[o, c, *taps]])

        return node.reduce("sum", [*([per_in] if deep else []), *sizes], body)

    return at


def _transposed(
    node: Node, x: Value, w: Value, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], groups: int,
) -> Callable[[Index], Expr]:  # fmt: skip
    """``x[n, c, (i + pad - p) / stride]`` where that is whole and inside."""
    per_in, per_out = Num(_whole(w.shape[0]) // groups), w.shape[1]
    source = outside(node, x, 0)

    def at(index: Index) -> Expr:
        n, o, *place = index
        window = [number(s) != 1 for s in w.shape[2:]]
        sizes = [s for s, wide in zip(w.shape[2:], window, strict=True) if wide]
        known = node.builder
        group = Num(0) if groups == 1 else floordiv(o, per_out, known.known)
        inside_group = o if groups == 1 else sub(o, mul(group, per_out))

        def body(inner: Index) -> Expr:
            c, *given = inner
            left = iter(given)
            taps = [next(left) if wide else Num(0) for wide in window]
            places = [
                sub(add(i, Num(pad)), mul(p, Num(d)))
                for i, p, d, pad in zip(place, taps, dilation, padding, strict=True)
            ]
            where = [e if s == 1 else Bin("//", e, Num(s))
                     for e, s in zip(places, stride, strict=True)]  # fmt: skip
            channel = add(mul(group, per_in), c)
            element = source[[n, channel, *where]]
            tests = [Bin("==", Bin("%", e, Num(s)), Num(0))
                     for e, s in zip(places, stride, strict=True) if s != 1]  # fmt: skip
            if tests:
                whole = tests[0]
                for t in tests[1:]:
                    whole = Bin("and", whole, t)
                element = Call("select", (whole, element, Num(0)))
            return Bin("*", element, w[[channel, inside_group, *taps]])

        return node.reduce("sum", [per_in, *sizes], body)

    return at


@aten("convolution_backward.default")
def convolution_backward(
    node: Node, grad: Value, x: Value, w: Value, _sizes: object, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], transposed: bool, _output_padding: object,
    groups: int, wanted: Sequence[bool],
) -> list[Value | None]:  # fmt: skip
    rank = w.rank - 2
    stride, padding, dilation = (list(v) * (rank // len(v)) for v in (stride, padding, dilation))
    b, name, out = node.builder, node.name, node.dtype
    by_x = by_w = by_bias = None
    if wanted[0]:
        back = _forward if transposed else _transposed
        by_x = b.define(name, x.shape, out, back(
            node, grad, w, stride, padding, dilation, groups))  # fmt: skip
    if wanted[1]:
        small, big = (x, grad) if transposed else (grad, x)
        by_w = b.define(f"{name}_weight", w.shape, out, _by_weight(
            node, small, big, stride, padding, dilation, groups))  # fmt: skip
    if wanted[2]:
        dims = [grad.shape[0], *grad.shape[2:]]
        by_bias = b.define(f"{name}_bias", [grad.shape[1]], out, lambda i: node.reduce(
            "sum", dims, lambda k: grad[[k[0], i[0], *k[1:]]]))  # fmt: skip
    return [by_x, by_w, by_bias]


def _by_weight(
    node: Node, small: Value, big: Value, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], groups: int,
) -> Callable[[Index], Expr]:  # fmt: skip
    """Products of the two sides of a convolution, where a tap of the window lets them meet."""
    source = outside(node, big, 0)
    first, second = (Num(_whole(v.shape[1]) // groups) for v in (small, big))

    def at(index: Index) -> Expr:
        a, c, *taps = index
        group = Num(0) if groups == 1 else floordiv(a, first, node.builder.known)

        def body(inner: Index) -> Expr:
            n, *place = inner
            where = [
                add(add(mul(i, Num(s)), mul(t, Num(d))), Num(-p))
                for i, t, s, d, p in zip(place, taps, stride, dilation, padding, strict=True)
            ]
            return Bin("*", small[[n, a, *place]], source[[n, add(mul(group, second), c), *where]])

        return node.reduce("sum", [small.shape[0], *small.shape[2:]], body)

    return at


def _whole(n: Expr) -> int:
    size = number(n)
    if size is None:
        raise Unsupported("channels whose number is not known")
    return size


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
        share = _whole(q.shape[-3]) // _whole(k.shape[-3])
        k, v = (_repeated(node, t, share) for t in (k, v))
    q, k, v = (broadcast(t, (*lead, *t.shape[-2:])) for t in (q, k, v))
    factor = scale if scale is not None else 1 / math.sqrt(_whole(q.shape[-1]))
    shape = (*lead, q.shape[-2], k.shape[-2])
    allowed = None if mask is None else aligned(mask, shape)

    def score(index: Index) -> Expr:
        *batch, i, j = index
        e: Expr = Bin("*", b.reduce("sum", [q.shape[-1]], lambda d: Bin(
            "*", q[[*batch, i, d[0]]], k[[*batch, j, d[0]]])), Num(factor))  # fmt: skip
        if allowed is not None and mask is not None:
            m = allowed(index)
            e = Call("select", (m, e, Num(-math.inf))) if mask.dtype.is_bool else Bin("+", e, m)
        return Call("select", (Bin("<=", j, i), e, Num(-math.inf))) if causal else e

    scores = b.define(f"{node.name}_scores", shape, node.dtype, score)
    weights = softmax(Node(f"{node.name}_weights", b, ((shape, node.dtype),)), scores, -1)
    return node.define(product_sum(node, weights, v))


def _repeated(node: Node, x: Value, times: int) -> Value:
    """Each head several times over, as grouped queries want it."""
    heads = Num(_whole(x.shape[-3]) * times)
    return x.view((*x.shape[:-3], heads, *x.shape[-2:]), lambda i: [
        *i[:-3], floordiv(i[-3], Num(times), node.builder.known), *i[-2:]
    ])  # fmt: skip
