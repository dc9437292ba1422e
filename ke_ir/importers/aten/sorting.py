"""Order: sorting by rank, places of values, running extremes.

The rank of an element is the number of those before it, so that sorting is a sum over all pairs:
a meaning, from which faster kernels may be found.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.reductions import along_dim, scanned
from ke_ir.importers.aten.views import broadcast, place
from ke_ir.importers.graph import Index, Value, constant
from ke_ir.importers.index import add, number, product, reshaped
from ke_ir.importers.registry import Node, Unsupported, aten
from ke_ir.types import DType

Rank = Callable[[Index], Expr]


def put(index: Index, dim: int, e: Expr) -> list[Expr]:
    """The index with another expression at one place."""
    return [e if k == dim else i for k, i in enumerate(index)]


def either(a: Expr, b: Expr) -> Expr:
    return Bin("or", a, b)


def both(a: Expr, b: Expr) -> Expr:
    return Bin("and", a, b)


def one_if(c: Expr) -> Expr:
    return Call("select", (c, Num(1), Num(0)))


def _before(a: Expr, b: Expr, descending: bool, dtype: DType) -> tuple[Expr, Expr]:
    """Whether ``a`` comes before ``b``, and whether they are equal; NaN is above all numbers."""
    first = Bin(">" if descending else "<", a, b)
    same = Bin("==", a, b)
    if not dtype.is_float:
        return first, same
    odd, other = Bin("!=", a, a), Bin("!=", b, b)
    low, high = (other, odd) if descending else (odd, other)
    return either(first, both(Call("not", (low,)), high)), either(same, both(odd, other))


def ranks(node: Node, x: Value, dim: int, descending: bool) -> Value:
    """How many elements along a dim come before each; of equal ones, those that stand before."""

    def rank(index: Index) -> Expr:
        def comes_before(inner: Index) -> Expr:
            j = inner[0]
            first, same = _before(x[put(index, dim, j)], x[index], descending, x.dtype)
            return one_if(either(first, both(same, Bin("<", j, index[dim]))))

        return node.reduce("sum", [x.shape[dim]], comes_before)

    return node.builder.define(f"{node.name}_rank", x.shape, DType.I64, rank)


def numbers(node: Node, x: Value) -> Value:
    """A stored tensor of numbers, which many elements may read."""
    if not x.dtype.is_bool:
        return node.builder.stored(x, f"{node.name}_in")
    return node.builder.define(f"{node.name}_in", x.shape, DType.I8, lambda i: one_if(x[i]))


def chosen(
    node: Node, x: Value, dim: int, rank: Value, index: Index, wanted: Expr, values: bool
) -> Expr:
    """The element of a rank, or its place. The index has all dims; ``dim`` of it is not read."""

    def here(inner: Index) -> Expr:
        at = put(index, dim, inner[0])
        return Call("select", (Bin("==", rank[at], wanted), x[at] if values else inner[0], Num(0)))

    return node.reduce("sum", [x.shape[dim]], here)


@aten("sort.default")
def sort(node: Node, x: Value, dim: int, descending: bool) -> list[Value]:
    return _sorted(node, x, dim, descending)


@aten("sort.stable")
def sort_stable(
    node: Node, x: Value, stable: bool | None, dim: int, descending: bool
) -> list[Value]:
    return _sorted(node, x, dim, descending)


@aten("topk.default")
def topk(node: Node, x: Value, k: int, dim: int, largest: bool, _: bool) -> list[Value]:
    return _sorted(node, x, dim, largest)


def _sorted(node: Node, x: Value, dim: int, descending: bool) -> list[Value]:
    """As many of the first as the results have."""
    if x.rank == 0:
        return [x, node.define(lambda _: Num(0), 1, "_place")]
    at, plain = place(dim, x.rank), numbers(node, x)
    rank = ranks(node, plain, at, descending)

    def value(i: Index) -> Expr:
        e = chosen(node, plain, at, rank, i, i[at], True)
        return Bin("!=", e, Num(0)) if x.dtype.is_bool else e

    return [node.define(value), node.define(
        lambda i: chosen(node, plain, at, rank, i, i[at], False), 1, "_place")]  # fmt: skip


@aten("kthvalue.default")
def kthvalue(node: Node, x: Value, k: int, dim: int, keep: bool) -> list[Value]:
    return _one(node, x, dim, keep, lambda _rank, _i: Num(k - 1))


@aten("median.dim")
def median_dim(node: Node, x: Value, dim: int, keep: bool) -> list[Value]:
    if x.rank == 0:
        return [x, node.define(lambda _: Num(0), 1, "_place")]
    return _one(node, x, dim, keep, _middle(node, x, place(dim, x.rank), False))


@aten("nanmedian.dim")
def nanmedian_dim(node: Node, x: Value, dim: int, keep: bool) -> list[Value]:
    if x.rank == 0:
        return [x, node.define(lambda _: Num(0), 1, "_place")]
    return _one(node, x, dim, keep, _middle(node, x, place(dim, x.rank), True))


@aten("median.default")
def median(node: Node, x: Value) -> Value:
    flat = flattened(node, x)
    return _one(node, flat, 0, False, _middle(node, flat, 0, False))[0]


@aten("nanmedian.default")
def nanmedian(node: Node, x: Value) -> Value:
    flat = flattened(node, x)
    return _one(node, flat, 0, False, _middle(node, flat, 0, True))[0]


def flattened(node: Node, x: Value) -> Value:
    shape = [product(x.shape)]
    return x.view(shape, lambda i: reshaped(i, shape, x.shape, node.builder.known))


def _middle(node: Node, x: Value, dim: int, skipping: bool) -> Callable[[Value, Index], Expr]:
    """The rank of the lower median: of the numbers if NaNs are skipped, else of a NaN."""
    n = number(x.shape[dim])
    if n is None:
        raise Unsupported("the median of a dim whose size is no number")
    if not x.dtype.is_float:
        return lambda _rank, _i: Num((n - 1) // 2)
    real = node.builder.define(
        f"{node.name}_numbers", along_dim(x.shape, dim), DType.I64,
        lambda i: node.reduce("sum", [x.shape[dim]], lambda j: one_if(_is_number(
            x[[*i[:dim], j[0], *i[dim:]]]))),
    )  # fmt: skip

    def rank(_: Value, i: Index) -> Expr:
        count = real[along_dim(i, dim)]
        if skipping:
            return Call("max", (Bin("//", Bin("-", count, Num(1)), Num(2)), Num(0)))
        return Call("select", (Bin("<", count, Num(n)), count, Num((n - 1) // 2)))

    return rank


def _is_number(e: Expr) -> Expr:
    return Bin("==", e, e)


def _one(
    node: Node, x: Value, dim: int, keep: bool, wanted: Callable[[Value, Index], Expr]
) -> list[Value]:
    """The element of one rank along a dim, and its place."""
    if x.rank == 0:
        return [x, node.define(lambda _: Num(0), 1, "_place")]
    at, plain = place(dim, x.rank), numbers(node, x)
    rank = ranks(node, plain, at, False)

    def element(values: bool) -> Callable[[Index], Expr]:
        def f(i: Index) -> Expr:
            full = list(i) if keep else [*i[:at], Num(0), *i[at:]]
            return chosen(node, plain, at, rank, full, wanted(rank, full), values)

        return f

    found = node.define(element(True))
    return [found] if len(node.results) < 2 else [found, node.define(element(False), 1, "_place")]


@aten("mode.default")
def mode(node: Node, x: Value, dim: int, keep: bool) -> list[Value]:
    """The most frequent element, the least of several; and the last place where it stands."""
    if x.rank == 0:
        return [x, node.define(lambda _: Num(0), 1, "_place")]
    at, plain = place(dim, x.rank), numbers(node, x)
    b, n = node.builder, x.shape[at]
    outer = along_dim(x.shape, at)
    often = b.define(f"{node.name}_count", x.shape, DType.I64, lambda i: node.reduce(
        "sum", [n], lambda j: one_if(Bin("==", plain[put(i, at, j[0])], plain[i]))))  # fmt: skip
    most = b.define(f"{node.name}_most", outer, DType.I64, lambda i: node.reduce(
        "max", [n], lambda j: often[[*i[:at], j[0], *i[at:]]]))  # fmt: skip
    top = Num(math.inf) if x.dtype.is_float else Num((1 << (plain.dtype.bits - 1)) - 1)

    def least(i: Index) -> Expr:
        def candidate(j: Index) -> Expr:
            own = [*i[:at], j[0], *i[at:]]
            return Call("select", (Bin("==", often[own], most[i]), plain[own], top))

        return node.reduce("min", [n], candidate)

    value = b.define(f"{node.name}_value", outer, plain.dtype, least)

    def last(i: Index) -> Expr:
        return node.reduce("max", [n], lambda j: Call("select", (
            Bin("==", plain[[*i[:at], j[0], *i[at:]]], value[i]), j[0], Num(0))))  # fmt: skip

    def without(i: Index) -> Index:
        return along_dim(i, at) if keep else i

    def element(i: Index) -> Expr:
        e = value[without(i)]
        return Bin("!=", e, Num(0)) if x.dtype.is_bool else e

    return [node.define(element), node.define(lambda i: last(without(i)), 1, "_place")]


# Where values belong in an order


@aten("searchsorted.Tensor")
def searchsorted(
    node: Node, order: Value, x: Value, _: bool, right: bool, side: str | None, sorter: Value | None
) -> Value:
    if sorter is not None:
        given, by = order, sorter
        order = Value(given.shape, given.dtype, lambda i: given[[*i[:-1], by[i]]])
    return _count_below(node, order, x, right or side == "right")


@aten("searchsorted.Scalar")
def searchsorted_scalar(
    node: Node, order: Value, x: float, _: bool, right: bool, side: str | None,
    sorter: Value | None,
) -> Value:  # fmt: skip
    value = constant(x, DType.F64 if isinstance(x, float) else DType.I64)
    return searchsorted(node, order, value, _, right, side, sorter)


@aten("bucketize.Tensor")
def bucketize(node: Node, x: Value, edges: Value, _: bool, right: bool) -> Value:
    return _count_below(node, edges, x, right)


def _count_below(node: Node, order: Value, x: Value, right: bool) -> Value:
    """How many come before: a NaN comes after all."""

    def element(i: Index) -> Expr:
        lead = list(i[:-1]) if order.rank > 1 else []
        return node.reduce("sum", [order.shape[-1]], lambda j: Call("select", (
            Bin(">" if right else ">=", order[[*lead, j[0]]], x[i]), Num(0), Num(1))))  # fmt: skip

    return node.define(element)


# Running extremes


@aten("cummax.default")
def cummax(node: Node, x: Value, dim: int) -> list[Value]:
    return _running(node, x, dim, "max")


@aten("cummin.default")
def cummin(node: Node, x: Value, dim: int) -> list[Value]:
    return _running(node, x, dim, "min")


def _running(node: Node, x: Value, dim: int, kind: str) -> list[Value]:
    """The extreme up to each place, and the last place where it stands."""
    if x.rank == 0:
        return [x, node.define(lambda _: Num(0), 1, "_place")]
    at, plain = place(dim, x.rank), numbers(node, x)
    so_far = scanned(Node(f"{node.name}_values", node.builder, ((x.shape, plain.dtype),)),
                     plain, at, kind)  # fmt: skip

    def last(i: Index) -> Expr:
        top = so_far[i]

        def here(j: Expr) -> Expr:
            e = plain[put(i, at, j)]
            same = _before(e, top, False, plain.dtype)[1]
            return Call("select", (same, j, Num(0)))

        return node.builder.bounded("max", Num(0), add(i[at], Num(1)), here)

    values = so_far
    if x.dtype.is_bool:
        values = node.define(lambda i: Bin("!=", so_far[i], Num(0)))
    return [values, node.define(last, 1, "_place")]


@aten("logcumsumexp.default")
def logcumsumexp(node: Node, x: Value, dim: int) -> Value:
    if x.rank == 0:
        return x
    at, x = place(dim, x.rank), node.builder.stored(x, f"{node.name}_in")
    top = scanned(Node(f"{node.name}_max", node.builder, node.results), x, at, "max")

    def element(i: Index) -> Expr:
        shift = Call("select", (Bin("<", Call("abs", (top[i],)), Num(math.inf)), top[i], Num(0.0)))
        total = node.builder.bounded("sum", Num(0), add(i[at], Num(1)), lambda j: Call(
            "exp", (Bin("-", x[put(i, at, j)], shift),)))  # fmt: skip
        return Bin("+", Call("log", (total,)), shift)

    return node.define(element)


@aten("isin.Tensor_Tensor")
def isin(node: Node, x: Value, among: Value, _: bool, invert: bool) -> Value:
    flat = flattened(node, among)
    at = broadcast(x, node.shape).at

    def element(i: Index) -> Expr:
        found = node.reduce("any", flat.shape, lambda j: Bin("==", at(i), flat[j]))
        return Call("not", (found,)) if invert else found

    return node.define(element)
