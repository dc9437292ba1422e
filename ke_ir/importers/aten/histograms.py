"""Histograms: how many elements, or what weight of them, lie between edges."""

from __future__ import annotations

from collections.abc import Sequence

from ke_ir.expr import Bin, Expr, Num
from ke_ir.importers.aten.sorting import flattened
from ke_ir.importers.aten.terms import both, select
from ke_ir.importers.graph import Index, Value
from ke_ir.importers.registry import Node, aten
from ke_ir.index_maps import number, product, reshaped

Ends = Sequence[float] | None


def _outer(node: Node, x: Value, d: int, given: Ends) -> tuple[Expr, Expr]:
    """The ends of the range of one coordinate: those of the data where none are given, and equal
    ones taken 1/2 apart on either side."""
    if given is not None:
        low, high = (float(e) for e in given[2 * d : 2 * d + 2])
        return (Num(low - 0.5), Num(high + 0.5)) if low == high else (Num(low), Num(high))

    def end(kind: str) -> Expr:
        return node.builder.define(f"{node.name}_{kind}", (), node.dtype, lambda _: node.reduce(
            kind, x.shape[:1], lambda j: x[[j[0], Num(d)]]))[[]]  # fmt: skip

    ends = [end("min"), end("max")]

    def apart(e: Expr, by: float) -> Expr:
        return select(Bin("==", *ends), Bin("+", e, Num(by)), e)

    return apart(ends[0], -0.5), apart(ends[1], 0.5)


def _equal_bins(node: Node, x: Value, d: int, bins: int, given: Ends, name: str) -> Value:
    """bins + 1 edges, counted from the nearer end as ``linspace`` does."""
    low, high = _outer(node, x, d, given)
    b, size, half = node.builder, (Num(bins + 1),), (bins + 1) // 2
    step = b.define(f"{name}_step", (), node.dtype, lambda _: Bin(
        "/", Bin("-", high, low), Num(bins)))[[]]  # fmt: skip

    def edge(i: Index) -> Expr:
        up = Bin("+", low, Bin("*", step, i[0]))
        down = Bin("-", high, Bin("*", step, Bin("-", Num(bins), i[0])))
        return select(Bin("<", i[0], Num(half)), up, down)

    return b.define(name, size, node.dtype, edge)


def _inside(edges: Value, k: Expr, e: Expr) -> Expr:
    """From one edge up to the next, which belongs to the last bin only."""
    last = number(edges.shape[0])
    following = edges[[Bin("+", k, Num(1))]]
    end = Bin("==", Bin("+", k, Num(2)), edges.shape[0] if last is None else Num(last))
    closed = both(end, Bin("==", e, following))
    return both(Bin(">=", e, edges[[k]]), Bin("or", Bin("<", e, following), closed))


def _counted(
    node: Node, x: Value, edges: Sequence[Value], weight: Value | None, density: bool
) -> Value:
    """The histogram of points x [number, coordinate]."""
    heavy = None if weight is None else flattened(node, weight)
    edges = [node.builder.stored(e, f"{node.name}_edges") for e in edges]

    def element(i: Index) -> Expr:
        def part(j: Index) -> Expr:
            hit: Expr | None = None
            for d, e in enumerate(edges):
                test = _inside(e, i[d], x[[j[0], Num(d)]])
                hit = test if hit is None else both(hit, test)
            assert hit is not None
            return select(hit, Num(1.0) if heavy is None else heavy[j], Num(0.0))

        return node.reduce("sum", x.shape[:1], part)

    if not density:
        return node.define(element)
    b = node.builder
    counts = b.define(f"{node.name}_counts", node.shape, node.dtype, element)
    total = b.define(f"{node.name}_total", (), node.dtype, lambda _: node.reduce(
        "sum", node.shape, lambda i: counts[i]))  # fmt: skip

    def density_of(i: Index) -> Expr:
        found = Bin("/", counts[i], total[[]])
        for k, e in zip(i, edges, strict=True):
            found = Bin("/", found, Bin("-", e[[Bin("+", k, Num(1))]], e[[k]]))
        return found

    return node.define(density_of)


def _points(node: Node, x: Value) -> Value:
    """[number, coordinate]."""
    shape = (product(x.shape[:-1]), x.shape[-1])
    flat = x.view(shape, lambda i: [
        *reshaped(i[:1], shape[:1], x.shape[:-1], node.builder.known), i[1]])  # fmt: skip
    return node.builder.stored(flat, f"{node.name}_points")


def _line(node: Node, x: Value) -> Value:
    flat = flattened(node, x)
    row = flat.view((*flat.shape, Num(1)), lambda i: i[:1])
    return node.builder.stored(row, f"{node.name}_points")


@aten("histogram.bin_ct")
def histogram(
    node: Node, x: Value, bins: int, ends: Ends, weight: Value | None, density: bool
) -> list[Value]:
    points = _line(node, x)
    edges = _equal_bins(node, points, 0, bins, ends, f"{node.name}_edges")
    return [_counted(node, points, [edges], weight, density), edges]


@aten("histogram.bins_tensor")
def histogram_of_edges(
    node: Node, x: Value, edges: Value, weight: Value | None, density: bool
) -> list[Value]:
    return [_counted(node, _line(node, x), [edges], weight, density), edges]


@aten("_histogramdd_bin_edges.default")
def histogramdd_edges(
    node: Node, x: Value, bins: Sequence[int], ends: Ends, weight: Value | None, density: bool
) -> list[Value]:
    points = _points(node, x)
    return [_equal_bins(node, points, d, n, ends, f"{node.name}_{d}") for d, n in enumerate(bins)]


@aten("_histogramdd_from_bin_cts.default")
def histogramdd_of_counts(
    node: Node, x: Value, bins: Sequence[int], ends: Ends, weight: Value | None, density: bool
) -> Value:
    points = _points(node, x)
    edges = [_equal_bins(node, points, d, n, ends, f"{node.name}_edges{d}")
             for d, n in enumerate(bins)]  # fmt: skip
    return _counted(node, points, edges, weight, density)


@aten("_histogramdd_from_bin_tensors.default")
def histogramdd_of_edges(
    node: Node, x: Value, edges: Sequence[Value], weight: Value | None, density: bool
) -> Value:
    return _counted(node, _points(node, x), edges, weight, density)
