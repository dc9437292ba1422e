"""Views by strides: places in a tensor's storage, of which PyTorch says how the tensor fills it."""

from __future__ import annotations

from collections.abc import Sequence

from ke_ir.expr import Bin, Expr, Num
from ke_ir.importers.aten.terms import select
from ke_ir.importers.aten.views import outside
from ke_ir.importers.graph import Index, Value
from ke_ir.importers.registry import Layout, Node, Unsupported, aten, whole
from ke_ir.index_maps import add, expanded, floordiv, mod, mul, number, product, reshaped


def _dense(node: Node, x: Value) -> Layout:
    """The layout of the first argument, which fills its storage, each place once."""
    layout = node.layouts[0] if node.layouts else None
    if layout is None:
        raise Unsupported("strides of a tensor whose layout is not known in numbers")
    sizes = [whole(n) for n in x.shape]
    wanted = 1
    for size, stride in sorted(zip(sizes, layout.strides, strict=True), key=lambda p: p[1]):
        if size > 1 and stride != wanted:
            raise Unsupported("strides of a tensor that does not fill its storage in some order")
        wanted *= size
    if layout.offset or layout.elements != wanted:
        raise Unsupported("strides of a part of a storage, whose rest is no input")
    return layout


def _at_place(node: Node, x: Value, layout: Layout, spot: Expr) -> list[Expr]:
    """The index of the element that lies at a place of the storage."""
    known = node.builder.known
    return [Num(0) if number(n) == 1 else mod(floordiv(spot, Num(s), known), n, known)
            for n, s in zip(x.shape, layout.strides, strict=True)]  # fmt: skip


def _reach(sizes: Sequence[int], strides: Sequence[int], offset: int) -> int:
    """The last place."""
    return offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))


@aten("as_strided.default", "as_strided_copy.default")
def as_strided(
    node: Node, x: Value, sizes: Sequence[int], strides: Sequence[int], offset: int | None
) -> Value:
    layout = _dense(node, x)
    start = offset or 0
    if _reach(sizes, strides, start) >= layout.elements:
        raise Unsupported("strides that go beyond the tensor's storage")

    def where(i: Index) -> Index:
        spot: Expr = Num(start)
        for j, s in zip(i, strides, strict=True):
            spot = add(spot, mul(j, Num(s)))
        return _at_place(node, x, layout, expanded(spot))

    return x.view(node.shape, where)


@aten("as_strided_scatter.default")
def as_strided_scatter(
    node: Node, x: Value, source: Value, sizes: Sequence[int], strides: Sequence[int],
    offset: int | None,
) -> Value:  # fmt: skip
    """``x`` with other elements where a view by strides reads it."""
    layout = _dense(node, x)
    start = offset or 0
    if _reach(sizes, strides, start) >= layout.elements:
        raise Unsupported("strides that go beyond the tensor's storage")
    dims = sorted((k for k, n in enumerate(sizes) if n > 1), key=lambda k: -strides[k])
    for outer, k in enumerate(dims):
        inner = dims[outer + 1 :]
        if _reach([sizes[d] for d in inner], [strides[d] for d in inner], 0) >= strides[k]:
            raise Unsupported("writes by strides that overlap")
    inside = outside(node, source, 0)

    def element(i: Index) -> Expr:
        rest: Expr = Num(-start)
        for j, s in zip(i, layout.strides, strict=True):
            rest = add(rest, mul(j, Num(s)))
        own: list[Expr] = [Num(0)] * len(sizes)
        written = Bin(">=", rest, Num(0))
        for k in dims:
            own[k] = Bin("//", rest, Num(strides[k]))
            written = Bin("and", written, Bin("<", own[k], Num(sizes[k])))
            rest = Bin("%", rest, Num(strides[k]))
        written = Bin("and", written, Bin("==", rest, Num(0)))
        return select(written, inside[own], x[i])

    return node.define(element)


@aten("resize.default", "resize_as.default")
def resize(node: Node, x: Value, *_: object) -> Value:
    """The first elements of the storage in another shape."""
    if number(product(node.shape)) == number(product(x.shape)) and _row_major(node, x):
        return x.view(node.shape, lambda i: reshaped(i, node.shape, x.shape, node.builder.known))
    sizes = [whole(n) for n in node.shape]
    strides = [whole(product(node.shape[k + 1 :])) for k in range(len(sizes))]
    return as_strided(node, x, sizes, strides, 0)


def _row_major(node: Node, x: Value) -> bool:
    layout = _dense(node, x)
    below = [whole(product(x.shape[k + 1 :])) for k in range(x.rank)]
    return all(s == b or number(n) == 1
               for n, s, b in zip(x.shape, layout.strides, below, strict=True))  # fmt: skip
