"""Order: sorting, elements of a rank, running extremes.

The rank of an element of a short row is the number of those before it, a sum over all pairs. Long
rows are sorted by merging.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.merging import Order, bounds, pair_work, pays, sorted_rows
from ke_ir.importers.aten.reductions import along_dim, scanned
from ke_ir.importers.aten.terms import absolute, both, either, one_if, select
from ke_ir.importers.aten.views import place
from ke_ir.importers.graph import At, Index, Value
from ke_ir.importers.registry import Node, Unsupported, aten
from ke_ir.index_maps import add, number, product, reshaped
from ke_ir.types import DType


def put(index: Index, dim: int, e: Expr) -> list[Expr]:
    """The index with another expression at one place."""
    return [e if k == dim else i for k, i in enumerate(index)]


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
        return select(Bin("==", rank[at], wanted), x[at] if values else inner[0], Num(0))

    return node.reduce("sum", [x.shape[dim]], here)


def ordered(
    node: Node, x: Value, dim: int, k: Expr, descending: bool, by_pairs: Callable[[int], int]
) -> tuple[Value, Value]:
    """The first ``k`` along a dim, as numbers, and their places.

    ``by_pairs`` counts the operations that ranking ``n`` by all pairs takes; where merging takes
    fewer, what is found is stored.
    """
    plain, n, first = numbers(node, x), number(x.shape[dim]), number(k)
    shape = put(x.shape, dim, k)
    if n is None or first is None or not pays(n, first, by_pairs(n)):
        rank = ranks(node, plain, dim, descending)

        def element(values: bool) -> At:
            return lambda i: chosen(node, plain, dim, rank, i, i[dim], values)

        return (
            Value(tuple(shape), plain.dtype, element(True)),
            Value(tuple(shape), DType.I64, element(False)),
        )
    rows = plain.view(_last(x.shape, dim), lambda i: [*i[:dim], i[-1], *i[dim:-1]])
    found = sorted_rows(Order(node, rows, n, descending), first)
    if dim == x.rank - 1:
        return found
    keys, places = (v.view(shape, lambda i: _last(i, dim)) for v in found)
    return keys, places


def _last(index: Index, dim: int) -> list[Expr]:
    """With what belongs to a dim at the end."""
    return [*along_dim(index, dim), index[dim]]


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
    at = place(dim, x.rank)
    size = node.shape[at]
    asked = number(size) or 0
    values, places = ordered(node, x, at, size, descending, lambda n: pair_work(n, asked))
    if x.dtype.is_bool:
        numbered = values
        values = Value(numbered.shape, x.dtype, lambda i: Bin("!=", numbered[i], Num(0)))
    b = node.builder
    return [b.stored(values, node.name), b.stored(places, f"{node.name}_place")]


@aten("kthvalue.default")
def kthvalue(node: Node, x: Value, k: int, dim: int, keep: bool) -> list[Value]:
    return _one(node, x, dim, keep, k, lambda _: Num(k - 1))


@aten("median.dim")
def median_dim(node: Node, x: Value, dim: int, keep: bool) -> list[Value]:
    return _median(node, x, dim, keep, False)


@aten("nanmedian.dim")
def nanmedian_dim(node: Node, x: Value, dim: int, keep: bool) -> list[Value]:
    return _median(node, x, dim, keep, True)


@aten("median.default")
def median(node: Node, x: Value) -> Value:
    return _median(node, flattened(node, x), 0, False, False)[0]


@aten("nanmedian.default")
def nanmedian(node: Node, x: Value) -> Value:
    return _median(node, flattened(node, x), 0, False, True)[0]


def flattened(node: Node, x: Value) -> Value:
    shape = [product(x.shape)]
    return x.view(shape, lambda i: reshaped(i, shape, x.shape, node.builder.known))


def _median(node: Node, x: Value, dim: int, keep: bool, skipping: bool) -> list[Value]:
    """The lower median: of the numbers if NaNs are skipped, else a NaN if there is one."""
    if x.rank == 0:
        return [x, node.define(lambda _: Num(0), 1, "_place")]
    at = place(dim, x.rank)
    n = number(x.shape[at])
    if n is None:
        raise Unsupported("the median of a dim whose size is no number")
    middle = (n - 1) // 2
    if not x.dtype.is_float:
        return _one(node, x, dim, keep, middle + 1, lambda _: Num(middle))
    real = node.builder.define(
        f"{node.name}_numbers", along_dim(x.shape, at), DType.I64,
        lambda i: node.reduce("sum", [x.shape[at]], lambda j: one_if(_is_number(
            x[[*i[:at], j[0], *i[at:]]]))),
    )  # fmt: skip

    def rank(i: Index) -> Expr:
        count = real[along_dim(i, at)]
        if skipping:
            return Call("max", (Bin("//", Bin("-", count, Num(1)), Num(2)), Num(0)))
        return select(Bin("<", count, Num(n)), count, Num(middle))

    return _one(node, x, dim, keep, middle + 1 if skipping else n, rank)


def _is_number(e: Expr) -> Expr:
    return Bin("==", e, e)


def _one(
    node: Node, x: Value, dim: int, keep: bool, most: int, wanted: Callable[[Index], Expr]
) -> list[Value]:
    """The element of one rank along a dim, one of the first ``most``, and its place."""
    if x.rank == 0:
        return [x, node.define(lambda _: Num(0), 1, "_place")]
    at = place(dim, x.rank)
    found = ordered(node, x, at, Num(most), False, lambda n: pair_work(n, 1))

    def element(v: Value) -> At:
        def f(i: Index) -> Expr:
            full = list(i) if keep else [*i[:at], Num(0), *i[at:]]
            return v[put(full, at, wanted(full))]

        return f

    value = node.define(element(found[0]))
    if len(node.results) < 2:
        return [value]
    return [value, node.define(element(found[1]), 1, "_place")]


@aten("mode.default")
def mode(node: Node, x: Value, dim: int, keep: bool) -> list[Value]:
    """The most frequent element, the least of several; and the last place where it stands."""
    if x.rank == 0:
        return [x, node.define(lambda _: Num(0), 1, "_place")]
    at, n = place(dim, x.rank), number(x.shape[place(dim, x.rank)])
    long = n is not None and pays(n, n, MODE_PAIR * n * n)
    value, where = (_mode_of_sorted if long else _mode_by_pairs)(node, x, at)

    def without(i: Index) -> Index:
        return along_dim(i, at) if keep else i

    def element(i: Index) -> Expr:
        e = value(without(i))
        return Bin("!=", e, Num(0)) if x.dtype.is_bool else e

    return [node.define(element), node.define(lambda i: where(without(i)), 1, "_place")]


MODE_PAIR = 3
"""Operations to count an equal element."""


def _mode_by_pairs(node: Node, x: Value, at: int) -> tuple[At, At]:
    """Element and place, by the index without the dim. A NaN equals nothing."""
    b, n, plain = node.builder, x.shape[at], numbers(node, x)
    outer = along_dim(x.shape, at)
    often = b.define(f"{node.name}_count", x.shape, DType.I64, lambda i: node.reduce(
        "sum", [n], lambda j: one_if(Bin("==", plain[put(i, at, j[0])], plain[i]))))  # fmt: skip
    most = b.define(f"{node.name}_most", outer, DType.I64, lambda i: node.reduce(
        "max", [n], lambda j: often[[*i[:at], j[0], *i[at:]]]))  # fmt: skip
    top = Num(math.inf) if x.dtype.is_float else Num(bounds(plain.dtype)[1])

    def least(i: Index) -> Expr:
        def candidate(j: Index) -> Expr:
            own = [*i[:at], j[0], *i[at:]]
            return select(Bin("==", often[own], most[i]), plain[own], top)

        return node.reduce("min", [n], candidate)

    value = b.define(f"{node.name}_value", outer, plain.dtype, least)

    def last(i: Index) -> Expr:
        return node.reduce("max", [n], lambda j: select(
            Bin("==", plain[[*i[:at], j[0], *i[at:]]], value[i]), j[0], Num(0)))  # fmt: skip

    return value.at, last


def _mode_of_sorted(node: Node, x: Value, at: int) -> tuple[At, At]:
    """The same: the end of the longest stretch of equal elements, the first of several.

    The order is stable, so that the last of equal elements stood last.
    """
    b, n = node.builder, x.shape[at]
    found = ordered(node, x, at, n, False, lambda n: MODE_PAIR * n * n)
    keys, places = (v.view(_last(v.shape, at), lambda i: [*i[:at], i[-1], *i[at:-1]])
                    for v in found)  # fmt: skip

    def changes(i: Index) -> Expr:
        left = Call("max", (Bin("-", i[-1], Num(1)), Num(0)))
        return select(Bin("!=", keys[i], keys[[*i[:-1], left]]), i[-1], Num(0))

    change = b.define(f"{node.name}_change", keys.shape, DType.I64, changes)
    start = b.define(f"{node.name}_start", keys.shape, DType.I64, lambda i: b.bounded(
        "max", Num(0), add(i[-1], Num(1)), lambda j: change[[*i[:-1], j]]))  # fmt: skip
    end = b.define(f"{node.name}_end", keys.shape[:-1], DType.I64, lambda i: node.reduce(
        "argmax", [n], lambda j: Bin("-", j[0], start[[*i, j[0]]])))  # fmt: skip
    return lambda i: keys[[*i, end[i]]], lambda i: places[[*i, end[i]]]


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
            return select(same, j, Num(0))

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
        shift = select(Bin("<", absolute(top[i]), Num(math.inf)), top[i], Num(0.0))
        total = node.builder.bounded("sum", Num(0), add(i[at], Num(1)), lambda j: Call(
            "exp", (Bin("-", x[put(i, at, j)], shift),)))  # fmt: skip
        return Bin("+", Call("log", (total,)), shift)

    return node.define(element)
