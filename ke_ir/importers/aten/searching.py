"""Where values belong in an order, and whether they are in a set."""

from __future__ import annotations

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.halving import halved
from ke_ir.importers.aten.sorting import flattened
from ke_ir.importers.aten.terms import select
from ke_ir.importers.aten.views import broadcast
from ke_ir.importers.graph import Index, Value, constant
from ke_ir.importers.registry import Node, aten
from ke_ir.index_maps import number
from ke_ir.types import DType

FEW = 64
"""Borders up to which they are counted, at two operations each. A search by halving takes about 18
for each bit of their number, a gather counted as 8: with 64 borders 126 operations, as many as to
count them."""


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
    """How many come before: a NaN comes after all.

    By halving it is what PyTorch gives, also for an order that is none, or that NaNs stand in: it
    tries the same places. Where borders are counted, NaNs among them are below everything.
    """

    def is_above(i: Index, j: Expr) -> Expr:
        lead = list(i[:-1]) if order.rank > 1 else []
        return Bin(">" if right else ">=", order[[*lead, j]], x[i])

    n = number(order.shape[-1])
    if n is None or n <= FEW:
        return node.define(lambda i: node.reduce("sum", [order.shape[-1]], lambda j: select(
            is_above(i, j[0]), Num(0), Num(1))))  # fmt: skip
    order = node.builder.stored(order, f"{node.name}_order")
    found = halved(
        node, "", node.shape, n, lambda _: Num(0), lambda _: Num(n),
        lambda i, j: Call("not", (is_above(i, Call("min", (j, Num(n - 1)))),)))  # fmt: skip
    return node.define(found)


@aten("isin.Tensor_Tensor")
def isin(node: Node, x: Value, among: Value, _: bool, invert: bool) -> Value:
    flat = flattened(node, among)
    at = broadcast(x, node.shape).at

    def element(i: Index) -> Expr:
        found = node.reduce("any", flat.shape, lambda j: Bin("==", at(i), flat[j]))
        return Call("not", (found,)) if invert else found

    return node.define(element)
