"""Reductions over segments of a dim, of which data say how long they are."""

from __future__ import annotations

import math

from ke_ir.expr import Bin, Call, Expr, Num
from ke_ir.importers.aten.pointwise import Scalar
from ke_ir.importers.aten.terms import OPERATION, one_if, select
from ke_ir.importers.graph import Index, Value
from ke_ir.importers.registry import Node, Unsupported, aten
from ke_ir.index_maps import add
from ke_ir.types import DType

KINDS = {"sum": "sum", "mean": "sum", "prod": "prod", "max": "max", "min": "min"}
EMPTY = {"sum": 0.0, "mean": math.nan, "prod": 1.0, "max": -math.inf, "min": math.inf}
"""Of a segment without elements, where no initial value is given."""


class Segments:
    """Where each segment begins and how long it is; the dims before the axis have their own."""

    def __init__(
        self, node: Node, x: Value, lengths: Value | None, offsets: Value | None, axis: int
    ) -> None:
        self.axis = axis
        b, size = node.builder, x.shape[axis]
        if offsets is not None:
            self.ends = b.stored(offsets, f"{node.name}_offsets")
            self.count = add(offsets.shape[-1], Num(-1))
            return
        if lengths is None:
            raise Unsupported("segments without lengths and offsets")
        given = b.stored(lengths, f"{node.name}_lengths")
        self.count = lengths.shape[-1]
        shape = (*lengths.shape[:-1], add(self.count, Num(1)))
        # PyTorch refuses lengths that go beyond the data; here they end with it.
        self.ends = b.define(f"{node.name}_offsets", shape, DType.I64, lambda i: Call("min", (
            b.bounded("sum", Num(0), i[-1], lambda k: given[[*i[:-1], k]]), size)))  # fmt: skip

    def range(self, i: Index, segment: Expr) -> tuple[Expr, Expr]:
        """First and past the last place of a segment."""
        lead = i[: self.axis]
        return self.ends[[*lead, segment]], self.ends[[*lead, add(segment, Num(1))]]


@aten("segment_reduce.default")
def segment_reduce(
    node: Node, x: Value, how: str, lengths: Value | None, indices: Value | None,
    offsets: Value | None, axis: int, _: bool, initial: Scalar | None,
) -> Value:  # fmt: skip
    if indices is not None:
        raise Unsupported("segments by indices")
    segments = Segments(node, x, lengths, offsets, axis)

    def element(i: Index) -> Expr:
        lo, hi = segments.range(i, i[axis])
        found = node.builder.bounded(KINDS[how], lo, hi, lambda j: x[
            [*i[:axis], j, *i[axis + 1 :]]])  # fmt: skip
        if initial is not None:
            found = OPERATION[KINDS[how]](found, Num(float(initial)))
        size = Bin("-", hi, lo)
        if how == "mean":
            found = Bin("/", found, Call("max", (size, Num(1))))
        empty = EMPTY[how] if initial is None else float(initial)
        return select(Bin("==", size, Num(0)), Num(empty), found)

    return node.define(element)


@aten("_segment_reduce_backward.default")
def segment_reduce_backward(
    node: Node, grad: Value, out: Value, x: Value, how: str, lengths: Value | None,
    offsets: Value | None, axis: int, initial: Scalar | None,
) -> Value:  # fmt: skip
    """Each element's share of its segment's result: of an extreme, equal parts of equal ones."""
    segments = Segments(node, x, lengths, offsets, axis)
    plain = node.builder.stored(x, f"{node.name}_in")

    def element(i: Index) -> Expr:
        def part(s: Index) -> Expr:
            lo, hi = segments.range(i, s[0])
            inside = Bin("and", Bin(">=", i[axis], lo), Bin("<", i[axis], hi))
            own = [*i[:axis], s[0], *i[axis + 1 :]]
            share = _share(node, how, plain, out[own], i, axis, lo, hi)
            return select(inside, Bin("*", grad[own], share), Num(0.0))

        return node.reduce("sum", [segments.count], part)

    return node.define(element)


def _share(
    node: Node, how: str, x: Value, total: Expr, i: Index, axis: int, lo: Expr, hi: Expr
) -> Expr:
    if how == "sum":
        return Num(1.0)
    if how == "mean":
        return Bin("/", Num(1.0), Call("max", (Bin("-", hi, lo), Num(1))))
    if how == "prod":
        return Bin("/", total, x[i])
    ties = node.builder.bounded("sum", lo, hi, lambda j: one_if(
        Bin("==", x[[*i[:axis], j, *i[axis + 1 :]]], total)))  # fmt: skip
    here = select(Bin("==", x[i], total), Num(1.0), Num(0.0))
    return Bin("/", here, Call("max", (ties, Num(1))))
